"""The figures of the paper by their numbers; a new one is one file and its name here."""

from nanorepro.paper import (
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    figure6,
    figure7,
    figure8,
    figure9,
    figure10,
)
from nanorepro.paper.record import Figure

FIGURES: dict[int, Figure] = {
    module.FIGURE.number: module.FIGURE
    for module in (
        figure1, figure2, figure3, figure4, figure5,
        figure6, figure7, figure8, figure9, figure10,
    )
}  # fmt: skip
