"""The programs that are compared: one file a framework, each run in a process of its own.

A file has ENGINES, name → Engine.  A framework is imported by its own file only.
"""
