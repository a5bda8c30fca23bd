"""`python -m nanorepro.reveal`: see `nanorepro.commands.reveal`."""

from nanorepro.commands.reveal import main

if __name__ == "__main__":
    main()
