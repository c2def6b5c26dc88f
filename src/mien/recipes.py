"""Recipes: what is built, how it is trained, and what its author claims. No torch.

A recipe is a frozen value; a variant is `dataclasses.replace(RECIPES["paul"], epochs=10)`. The resolved recipe
is written as JSON beside every run and into every exported model.
"""

import json
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal

from mien.checked import Below, Checked, Count, Inside, NotNegative, Positive, Share
from mien.errors import InputError, NotFound
from mien.expressions import Labels
from mien.storage import parse_json

HELD_OUT = "held-out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol(Checked):
    """Which rows train, which choose the epoch, which are reported.

    Attributes:
        train: Splits the network may learn from.
        select: A split kept for choosing, or the share of the training rows that is held out for it.
        held_out: How that share is taken: the last rows as Keras' `validation_split` does, or at random.
        test: Splits the author reports.
    """

    train: tuple[str, ...] = ("Training",)
    select: str | Inside = "PublicTest"
    held_out: Literal["last", "random"] = "last"
    test: tuple[str, ...] = ("PrivateTest",)

    @property
    def chooser(self) -> str:
        """The name of the rows that choose the epoch: a split of the data, or "held-out" for a share of it."""
        return self.select if isinstance(self.select, str) else HELD_OUT

    def __str__(self) -> str:
        """In words: trains on ...; ... chooses; reports ..."""
        if isinstance(self.select, str):
            chooser = f"{self.select} chooses"
        else:
            chooser = f"{'a random' if self.held_out == 'random' else 'the last'} {self.select:.0%} of it chooses"
        reports = f"reports {' + '.join(self.test)}" if self.test else "reports no test split"
        return f"trains on {' + '.join(self.train)}; {chooser}; {reports}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment(Checked):
    """Random changes of a training image, each drawn anew for every image and epoch.

    Attributes:
        flip: Probability of mirroring left and right.
        degrees: Rotation, uniform in plus or minus this many degrees.
        translate: Shift along each axis, uniform in plus or minus this share of the side.
        scale: Zoom, uniform in 1 plus or minus this.
        uncovered: What shows where these three left nothing: the image's border, repeated, or that part of another
            image, as a photo goes on around a face.
        brightness: Added to the pixels (range 0 to 1), uniform in plus or minus this.
        contrast: Factor on the pixels, uniform in 1 plus or minus this.
        erase: Probability that one rectangle of 2 % to 20 % of the area is blanked.
        noise: Standard deviation of the Gaussian noise (pixels in 0 to 1) that one image in four gets. This and the
            blur change the picture and not the face: teachers answer for the image without them.
        blur: Largest standard deviation, in pixels, of the Gaussian blur that one image in four gets.
    """

    flip: Share = 0.0
    degrees: Annotated[float, "[0, 180]"] = 0.0
    translate: Share = 0.0
    scale: Below = 0.0
    uncovered: Literal["border", "other"] = "border"
    brightness: Share = 0.0
    contrast: Share = 0.0
    erase: Share = 0.0
    noise: Share = 0.0
    blur: Annotated[float, "[0, 8]"] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam(Checked):
    """Keras' Adam; `decay` is its old time decay, lr / (1 + decay * step)."""

    lr: Positive = 1e-3
    decay: NotNegative = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SGD(Checked):
    """Stochastic gradient descent with Nesterov momentum; biases and norms are not decayed."""

    lr: Positive = 0.1
    momentum: Inside = 0.9
    weight_decay: NotNegative = 5e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Muon(Checked):
    """SGD whose steps for convolutions before a batch norm are made orthogonal; all else learns at `rest_lr`."""

    lr: Positive = 0.02
    rest_lr: Positive = 0.1
    momentum: Inside = 0.9
    weight_decay: NotNegative = 5e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Checked):
    """The learning rate stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau(Checked):
    """Keras' ReduceLROnPlateau on the validation loss; patience in epochs."""

    factor: Inside = 0.1
    patience: Count = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine(Checked):
    """Linear warm-up, then half a cosine down to zero at the last step; warm-up in epochs."""

    warmup: NotNegative = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping(Checked):
    """Keras' EarlyStopping on the validation accuracy; patience in epochs."""

    patience: Count = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Checked):
    """One row of the results table.

    Attributes:
        name: Key of `RECIPES` and the name of the exported model.
        network: Key of `mien.lab.networks.NETWORKS`.
        summary: One line for `mien recipes`.
        source: Where the system is described.
        claim: What its author states, in words; empty when nothing is stated.
        claim_metric: The measure that the claim is stated in.
        mean, std: A pixel p in [0, 255] enters the network as (p / 255 - mean) / std.
        labels: What is learned: FER2013's labels, the FER+ majority, or the distribution of the FER+ votes.
        loss: Softmax cross-entropy, or the element-wise binary cross-entropy on softmax outputs.
        label_smoothing: Share of the target spread evenly over all labels.
        votes: Weight of a second head that learns the FER+ vote shares; 0 for none.
        drop_non_faces: Leave out training rows that FER+ taggers mostly call "not a face".
        mixup, cutmix: Alpha of the Beta distribution that says how two training images are blended, or how much of
            one is pasted into the other; 0 for neither. Where both are set, each batch draws one of them.
        elder: It begins with the weights of a trained network (--start-from), and not without.
        distil: Weight of the teachers' softened answers against the labels, or of those in a teacher's table, which
            are taken as they are; needs teachers. 0 for none.
        soften: Temperature of teachers and student in that term.
        ema: Decay per step of the moving average of the weights that is evaluated and kept; 0 for none.
        keep: Which checkpoint `best` is: lowest validation loss or highest validation accuracy.
        batch: Images a step, over all devices.
    """

    name: str
    network: str
    summary: str
    source: str
    claim: str = ""
    claim_metric: Literal["accuracy", "binary_accuracy"] = "accuracy"
    protocol: Protocol = field(default_factory=Protocol)
    mean: float = 0.0
    std: Positive = 1.0
    labels: Labels = "fer2013"
    loss: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0
    votes: NotNegative = 0.0
    drop_non_faces: bool = False
    augment: Augment = field(default_factory=Augment)
    optimizer: Adam | SGD | Muon = field(default_factory=Adam)
    schedule: Constant | Plateau | Cosine = field(default_factory=Constant)
    stopping: Stopping | None = None
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    elder: bool = False
    distil: Share = 0.0
    soften: Positive = 2.0
    ema: Below = 0.0
    keep: Literal["loss", "accuracy"] = "accuracy"
    epochs: Annotated[int, "[1, inf)"] = 20
    batch: Annotated[int, "[2, inf)"] = 64  # a batch norm cannot learn from one
    seed: Annotated[int, "[0, 4294967295]"] = 0

    @property
    def title(self) -> str:
        """The name, and whose labels it learns where they are not FER2013's: what models and reports are called."""
        return self.name if self.labels == "fer2013" else f"{self.name}-{self.labels}"

    @property
    def claims_binary(self) -> bool:
        """Whether reports must show binary accuracy beside accuracy."""
        return self.claim_metric == "binary_accuracy"

    def to_json(self) -> str:
        """The whole recipe as JSON text; `from_json` reads it back."""
        return json.dumps(_tagged(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """The recipe that `to_json` wrote.

        Raises:
            InputError: The text is not such a recipe.
        """
        try:
            recipe = _untagged(parse_json(text))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"expected the JSON of a recipe, but it does not read as one: {error}") from error
        if not isinstance(recipe, cls):
            raise InputError("expected the JSON of a recipe, as a run folder's recipe.json holds it")
        return recipe


def _tagged(value: Any) -> Any:
    """Dataclasses to dicts that name their class, so that unions can be read back."""
    if is_dataclass(value):
        return {"": type(value).__name__} | {f.name: _tagged(getattr(value, f.name)) for f in fields(value)}
    return value


_CLASSES = {c.__name__: c for c in (Recipe, Protocol, Augment, Adam, SGD, Muon, Constant, Plateau, Cosine, Stopping)}


def _untagged(value: Any) -> Any:
    if isinstance(value, dict):
        kind = _CLASSES[value[""]]
        return kind(**{k: _untagged(v) for k, v in value.items() if k})
    return tuple(value) if isinstance(value, list) else value


def override(recipe: Recipe, settings: dict[str, str]) -> Recipe:
    """A recipe with some fields replaced, as `--set epochs=5 --set optimizer.lr=0.05` asks.

    Args:
        recipe: What to start from.
        settings: Dotted field name to its new value as text, read as JSON where it is JSON, one after the other. The
            name of a rule (`optimizer=Muon`) stands for that rule as it is by default; what has none gets one by a
            setting of it (`stopping.patience=6`).

    Raises:
        NotFound: No such field.
        InputError: The field takes no such value.
    """
    for path, text in settings.items():
        recipe = _replaced(recipe, path.split("."), text, path)
    return recipe


def _replaced(value: Any, path: list[str], text: str, whole: str) -> Any:
    name, *rest = path
    known = [f.name for f in fields(value)] if is_dataclass(value) else []
    if name not in known:
        raise NotFound.named("recipe setting", whole, known)
    old = getattr(value, name)
    if rest:
        return replace(value, **{name: _replaced(_NONE_YET.get(name) if old is None else old, rest, text, whole)})
    try:
        new = json.loads(text)
    except ValueError:
        new = _RULES.get(text, text) if is_dataclass(old) else text
    if isinstance(new, list):
        new = tuple(new)
    if isinstance(old, float) and type(new) is int:
        new = float(new)
    return replace(value, **{name: new})


_RULES = {type(rule).__name__: rule for rule in (Adam(), SGD(), Muon(), Constant(), Plateau(), Cosine())}
_NONE_YET = {"stopping": Stopping()}


_MODERN = Augment(
    flip=0.5, degrees=15.0, translate=0.1, scale=0.15, brightness=0.2, contrast=0.2, erase=0.25
)

_MIEN_SMALL = Recipe(
    name="mien-small",
    network="mien-small",
    summary="residual net, the first that shipped; the model of this name is a vgg-slim-standard now",
    source="this project",
    mean=0.5,
    std=0.25,
    label_smoothing=0.1,
    votes=1.0,
    drop_non_faces=True,
    augment=_MODERN,
    optimizer=SGD(lr=0.1, weight_decay=5e-4),
    schedule=Cosine(warmup=2.0),
    ema=0.999,
    epochs=100,
    batch=128,
)

_STUDENT = replace(
    _MIEN_SMALL,
    name="mien-small-student",
    summary="mien-small once more, from the weights of a trained one and the answers of two",
    augment=replace(_MODERN, noise=0.05, blur=1.5),
    optimizer=SGD(lr=0.05, weight_decay=5e-4),
    mixup=0.2,
    distil=0.6,
    epochs=60,
    seed=3,
)

_VGG = replace(
    _STUDENT,
    name="vgg",
    network="vgg",
    summary="ten-layer VGG with batch norm at full 48 px, 458 million multiply-adds; for a GPU",
    optimizer=SGD(lr=0.15, weight_decay=5e-4),
    mixup=0.4,
    distil=0.0,
    ema=0.998,
    epochs=86,
    batch=256,
    seed=0,
)

_STANDARD = replace(
    _STUDENT,
    name="mien-small-standard",
    network="mien-small-standard",
    summary="mien-small-student once more, on faces that are each standardised first",
    optimizer=SGD(lr=0.02, weight_decay=5e-4),
    epochs=26,
    seed=21,
)

_PAUL = Recipe(
    name="paul",
    network="paul",
    summary="Jerin Paul's VGG-like net, as the published number was made: 100 epochs, the last one kept",
    source="https://www.freecodecamp.org/news/"
    "facial-emotion-recognition-develop-a-c-n-n-and-break-into-kaggle-top-10-f618c024faa7",
    claim="63.167 % on PrivateTest",
    protocol=Protocol(train=("Training", "PublicTest"), select=0.2, held_out="last", test=("PrivateTest",)),
    optimizer=Adam(lr=1e-3),
    schedule=Plateau(factor=0.9, patience=3),
    keep="loss",
    epochs=100,
    batch=64,
)

_ALL = (
    _MIEN_SMALL,
    replace(
        _MIEN_SMALL,
        name="mien-small-quick",
        summary="mien-small by Muon, where time is short: a quarter of the epochs",
        optimizer=Muon(),
        epochs=24,
    ),
    replace(
        _MIEN_SMALL,
        name="mien-small-plain",
        summary="mien-small on FER2013's labels alone: no FER+ votes, every Training row",
        votes=0.0,
        drop_non_faces=False,
    ),
    _STUDENT,
    replace(
        _STUDENT,
        name="fine-tune",
        network="vgg-slim-standard",
        summary="the network that ships, taught faces of your own: --start-from mien-small",
        protocol=Protocol(select=0.1, held_out="random", test=()),
        votes=0.0,
        drop_non_faces=False,
        elder=True,
        optimizer=SGD(lr=0.01, weight_decay=5e-4),
        distil=0.0,
        epochs=10,
        seed=0,
    ),
    replace(
        _MIEN_SMALL,
        name="resnet18",
        network="resnet18",
        summary="ResNet-18 at full 48 px, for a GPU",
        epochs=200,
    ),
    replace(
        _MIEN_SMALL,
        name="resnet18-se",
        network="resnet18-se",
        summary="ResNet-18 with squeeze-and-excitation at full 48 px, for a GPU",
        epochs=200,
    ),
    _VGG,
    replace(
        _VGG,
        name="vgg-wide",
        network="vgg-wide",
        summary="nine-layer VGG, most of it wide, on the inner 40 x 40 pixels, with teachers; for a GPU",
        mixup=0.2,
        distil=0.5,
        epochs=120,
        seed=4,
    ),
    replace(
        _STUDENT,
        name="vgg-small",
        network="vgg-small",
        summary="eight-layer VGG with batch norm at full 48 px, 117 million multiply-adds",
        distil=0.0,
        epochs=78,
        seed=0,
    ),
    replace(
        _STUDENT,
        name="vgg-small-student",
        network="vgg-small",
        summary="vgg-small once more, from the weights of a trained one and the answers of others",
        seed=7,
    ),
    replace(
        _STUDENT,
        name="vgg-inner",
        network="vgg-inner",
        summary="vgg-small on the inner 40 x 40 pixels, 82 million multiply-adds",
        augment=replace(_STUDENT.augment, translate=0.08),
        distil=0.0,
        epochs=125,
        seed=11,
    ),
    _STANDARD,
    replace(
        _STUDENT,
        name="mien-small-lifted",
        network="mien-small-lifted",
        summary="mien-small-student once more, lifting faces that are dark or flat",
        augment=replace(_STUDENT.augment, uncovered="other"),
        optimizer=SGD(lr=0.02, weight_decay=5e-4),
        distil=0.8,
        epochs=14,
        seed=132,
    ),
    replace(
        _STANDARD,
        name="vgg-small-standard",
        network="vgg-small-standard",
        summary="vgg-small-student once more, on faces that are each standardised first",
        seed=19,
    ),
    replace(
        _STANDARD,
        name="vgg-inner-standard",
        network="vgg-inner-standard",
        summary="vgg-inner once more, without teachers, on faces that are each standardised first",
        augment=replace(_STUDENT.augment, translate=0.08),
        distil=0.0,
        seed=20,
    ),
    replace(
        _STUDENT,
        name="vgg-slim-student",
        network="vgg-slim",
        summary="a vgg-inner with fewer channels, 56 million multiply-adds, and teachers",
        optimizer=SGD(lr=0.03, weight_decay=5e-4),
        epochs=70,
        seed=14,
    ),
    replace(
        _STANDARD,
        name="vgg-slim-standard",
        network="vgg-slim-standard",
        summary="the network that ships: vgg-slim on faces that are each standardised first",
        seed=18,
    ),
    replace(
        _STANDARD,
        name="vgg-slim-quick",
        network="vgg-slim-standard",
        summary="the network that ships from nothing, without teachers, by Muon, where time is short",
        optimizer=Muon(),
        mixup=0.0,
        distil=0.0,
        epochs=24,
        seed=50,
    ),
    Recipe(
        name="workshop",
        network="workshop",
        summary="workshop brief 'Categorizing Faces based on Emotions'",
        source="workshop brief 'Categorizing_Faces_based_on_Emotions' (README)",
        protocol=Protocol(select=0.1, held_out="random", test=()),
        epochs=20,
        batch=64,
    ),
    Recipe(
        name="alexnet",
        network="alexnet",
        summary="AlexNet-like net trained on seven binary outputs",
        source="https://github.com/hk1997/facialExpressionRecognition",
        claim="88.6 % on PublicTest + PrivateTest (element-wise binary accuracy; its floor is 85.71 %)",
        claim_metric="binary_accuracy",
        protocol=Protocol(select=0.1, held_out="last", test=("PublicTest", "PrivateTest")),
        loss="binary_cross_entropy",
        optimizer=Adam(lr=1e-3, decay=1e-6),
        keep="loss",
        epochs=15,
        batch=128,
    ),
    _PAUL,
    replace(
        _PAUL,
        name="paul-as-printed",
        summary="the same with the early stopping that the article prints, which ends it near epoch 7",
        stopping=Stopping(patience=6),
    ),
)

RECIPES: MappingProxyType[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _ALL})
"""Every recipe by name."""


SIZES: MappingProxyType[str, tuple[int, int]] = MappingProxyType({
    "mien-small": (1_230_503, 35_557_120),
    "mien-small-standard": (1_230_503, 35_557_120),
    "mien-small-lifted": (1_230_503, 35_557_120),
    "resnet18": (11_180_871, 1_247_038_976),
    "resnet18-se": (11_269_951, 1_247_126_016),
    "vgg": (7_498_311, 457_854_464),
    "vgg-wide": (7_054_919, 384_310_784),
    "vgg-small": (1_757_863, 117_450_496),
    "vgg-small-standard": (1_757_863, 117_450_496),
    "vgg-inner": (1_757_863, 81_563_392),
    "vgg-inner-standard": (1_757_863, 81_563_392),
    "vgg-slim": (1_323_639, 55_643_168),
    "vgg-slim-standard": (1_323_639, 55_643_168),
    "workshop": (2_787_015, 722_092_928),
    "alexnet": (41_462_727, 544_799_744),
    "paul": (9_014_727, 601_332_416),
})  # fmt: skip
"""Parameters, counted as Keras counts them, and multiply-adds of one face, by network; `mien recipes` shows them
where there is no torch to count them. A test holds them to the networks."""


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        NotFound: There is none; the closest name is suggested.
    """
    if name not in RECIPES:
        raise NotFound.named("recipe", name, RECIPES)
    return RECIPES[name]
