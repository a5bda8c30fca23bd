"""What a backend is told of one model: the record that passes between the floors."""

from dataclasses import dataclass

from nanorepro.config import Config, Dials, dials
from nanorepro.model.layers import Layer, layers
from nanorepro.numerics.streams import stream_key


@dataclass(frozen=True)
class ModelSpec:
    """One model of a pair: its layers, its dials, and the keys of its own streams."""

    config: Config
    features: int
    pair: int
    model: int

    @property
    def net(self) -> tuple[Layer, ...]:
        return layers(self.config, self.features)

    @property
    def dials(self) -> Dials:
        return dials(self.config, self.model)

    def key(self, role: str, stream: str = ""):
        """Key of a stream: the pair's, or the model's own where the two differ in that role."""
        model = self.model if role in self.config.roles else 0
        return stream_key(self.config.seed, stream or role, self.pair, model)
