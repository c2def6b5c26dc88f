"""Write tests/golden/*.json from real Keras: run once, in an environment of its own.

    python -m venv keras-venv && keras-venv/bin/pip install tensorflow-cpu
    keras-venv/bin/python tools/golden_keras.py

The nets are built as their sources build them and fed by the formulas of `tests/lab/golden_inputs.py`. What
comes out is written down: layers, outputs, losses, gradients, and what the optimizers and callbacks do.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"


def load_inputs() -> Any:
    """The formulas, imported by path: tests are no package."""
    path = ROOT / "tests" / "lab" / "golden_inputs.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


inputs = load_inputs()


def workshop(head: str) -> keras.Sequential:
    """Source: workshop brief "Categorizing_Faces_based_on_Emotions" (README)."""
    model = keras.Sequential([keras.Input((48, 48, 1))])
    for filters, kernel in ((64, 5), (128, 5), (256, 3)):
        model.add(layers.Conv2D(filters, kernel, padding="same"))
        model.add(layers.Conv2D(filters, kernel, padding="same"))
        model.add(layers.BatchNormalization())
        model.add(layers.MaxPooling2D(2))
        model.add(layers.Activation("relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(128))
    model.add(layers.BatchNormalization())
    model.add(layers.Activation("relu"))
    model.add(layers.Dropout(0.25))
    model.add(layers.Dense(7, activation=head))
    return model


def alexnet(head: str) -> keras.Sequential:
    """Source: https://github.com/hk1997/facialExpressionRecognition at 50554fb."""
    model = keras.Sequential([keras.Input((48, 48, 1))])
    model.add(layers.Conv2D(96, 3, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D(2))
    for filters in (256, 384, 384):
        model.add(layers.Conv2D(filters, 2, activation="relu"))
    model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    model.add(layers.Activation("relu"))
    for _ in range(2):
        model.add(layers.Dense(1024))
        model.add(layers.Activation("relu"))
        model.add(layers.Dropout(0.5))
    model.add(layers.Dense(7))
    model.add(layers.Activation(head))
    return model


def paul(head: str) -> keras.Sequential:
    """Source: https://github.com/Paulymorphous/Facial-Emotion-Recognition at 5eb5f11."""
    model = keras.Sequential([keras.Input((48, 48, 1))])
    model.add(layers.Conv2D(64, 3, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01)))
    model.add(layers.Conv2D(64, 3, padding="same", activation="relu"))
    model.add(layers.BatchNormalization())
    model.add(layers.MaxPooling2D(2))
    model.add(layers.Dropout(0.5))
    for filters in (128, 256, 512):
        for _ in range(3):
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
            model.add(layers.BatchNormalization())
        model.add(layers.MaxPooling2D(2))
        model.add(layers.Dropout(0.5))
    model.add(layers.Flatten())
    for units in (512, 256, 128, 64):
        model.add(layers.Dense(units, activation="relu"))
        model.add(layers.Dropout(0.5))
    model.add(layers.Dense(7, activation=head))
    return model


def network(build: Callable[[str], keras.Sequential], loss: str) -> dict[str, Any]:
    """Everything about one net; `loss` is what its author trains it with."""
    keras.backend.clear_session()  # layer names count from zero
    model = build("softmax")
    weights = inputs.weights([w.shape for w in model.weights])
    model.set_weights(weights)
    model.compile(loss=loss, optimizer="sgd")
    x, y = inputs.images(), np.eye(7, dtype=np.float32)[list(inputs.LABELS)]
    probabilities = model(x, training=False).numpy()
    penalty = sum(model.losses, tf.constant(0.0))
    return {
        "versions": versions(),
        "layers": [
            {
                "name": layer.name,
                "class": type(layer).__name__,
                "shape": list(layer.output.shape[1:]),
                "parameters": layer.count_params(),
                **({"rate": layer.rate} if isinstance(layer, layers.Dropout) else {}),
            }
            for layer in model.layers
        ],
        "parameters": model.count_params(),
        "logits": with_weights(build("linear"), weights)(x, training=False),
        "probabilities": probabilities,
        "l2": penalty,
        "loss": keras.ops.mean(keras.losses.get(loss)(y, probabilities)) + penalty,
        "compiled_loss": model.test_on_batch(x, y),
        "training": training(build, loss, weights, x, y),
    }


def with_weights(model: keras.Sequential, weights: list[Any]) -> keras.Sequential:
    """The model, with these weights."""
    model.set_weights(weights)
    return model


def training(build: Callable[[str], keras.Sequential], loss: str, weights: list[Any], x: Any, y: Any) -> Any:
    """One pass in training mode, in float64: rounding adds up over many batch norms of few values.

    Without dropout, which no two generators draw alike.
    """
    keras.config.set_dtype_policy("float64")
    model = with_weights(build("linear"), weights)
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0
    with tf.GradientTape() as tape:
        logits = model(x.astype(np.float64), training=True)
        # `identity` drops the note of the logits that Keras leaves on a softmax and its losses act on.
        probabilities = tf.identity(keras.ops.softmax(logits))
        total = keras.ops.mean(keras.losses.get(loss)(y, probabilities))
        total += sum(model.losses, tf.constant(0.0, tf.float64))
    gradients = tape.gradient(total, [w.value for w in model.trainable_weights])
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    keras.config.set_dtype_policy("float32")
    return {
        "logits": logits,
        "loss": total,
        "gradient_norms": [tf.norm(g) for g in gradients],
        "moving_means": [layer.moving_mean[:3] for layer in norms],
        "moving_variances": [layer.moving_variance[:3] for layer in norms],
    }


def adam(rate: Any) -> dict[str, Any]:
    """Five steps of Adam on the small vector: where it is and at what rate it got there."""
    vector = keras.Variable(inputs.start())
    optimizer = keras.optimizers.Adam(rate)
    rates, steps = [], []
    for gradient in inputs.gradients():
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [vector])
        steps.append(vector.numpy())
    return {"rates": rates, "parameters": steps}


def dummy() -> keras.Model:
    """Something for callbacks to hold."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.Adam(1e-3))
    return model


def plateau(values: tuple[float, ...], factor: float, patience: int) -> list[float]:
    """The learning rate after each epoch."""
    model = dummy()
    callback = keras.callbacks.ReduceLROnPlateau("val_loss", factor=factor, patience=patience, mode="min")
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_loss": value})
        rates.append(float(model.optimizer.learning_rate))
    return rates


def stopping(values: tuple[float, ...], patience: int) -> int:
    """The epoch, counted from 1, after which training stops; 0 if it never does."""
    model = dummy()
    callback = keras.callbacks.EarlyStopping("val_accuracy", patience=patience, mode="max")
    callback.set_model(model)
    callback.on_train_begin()
    model.stop_training = False
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_accuracy": value})
        if model.stop_training:
            return epoch + 1
    return 0


def glorot_limit(shape: tuple[int, ...]) -> float:
    """Half the width of GlorotUniform for a kernel shape, from the fans that Keras itself computes."""
    fan_in, fan_out = keras.src.initializers.random_initializers.compute_fans(shape)
    limit = (6 / (fan_in + fan_out)) ** 0.5
    drawn = np.abs(keras.initializers.GlorotUniform(seed=0)(shape)).max()
    assert 0.95 * limit < drawn <= limit * (1 + 1e-6), f"{shape}: drawn up to {drawn}, expected {limit}"
    return limit


def optimizers() -> dict[str, Any]:
    """What optimizers, schedules, callbacks, initialisers and losses do."""
    schedule = keras.optimizers.schedules.InverseTimeDecay(1e-3, decay_steps=1, decay_rate=inputs.DECAY)
    # Plain numbers: on a softmax's own output Keras 3 would take a sigmoid of the logits instead.
    probabilities = keras.ops.softmax(inputs.scores()).numpy()
    truth = np.eye(7, dtype=np.float32)[list(inputs.SCORE_LABELS)]
    return {
        "versions": versions(),
        "adam": adam(1e-3),
        "adam_decay": adam(schedule),
        "plateau": {name: plateau(*case) for name, case in inputs.PLATEAUS.items()},
        "stopping": {name: stopping(*case) for name, case in inputs.STOPPINGS.items()},
        "glorot": [glorot_limit(shape) for shape in inputs.GLOROT_SHAPES],
        "binary_crossentropy": keras.losses.BinaryCrossentropy()(truth, probabilities),
        "binary_crossentropy_rows": keras.losses.binary_crossentropy(truth, probabilities),
        "binary_accuracy": keras.ops.mean(keras.metrics.binary_accuracy(truth, probabilities)),
    }


def versions() -> dict[str, str]:
    """What wrote the file."""
    return {"keras": keras.__version__, "tensorflow": tf.__version__}


def plain(value: Any) -> Any:
    """Tensors to lists, floats to seven significant digits: float32 holds no more."""
    match value:
        case dict():
            return {key: plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [plain(entry) for entry in value]
        case str() | bool() | int():
            return value
        case float():
            return float(f"{value:.7g}")
        case _:
            return plain(np.asarray(value).tolist())


def layout(value: Any, levels: int = 2) -> str:
    """JSON with a line for each entry of the outer levels: short, and still readable in a diff."""
    if not levels or not isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, dict):
        entries = [f"{json.dumps(key)}: {layout(entry, levels - 1)}" for key, entry in value.items()]
    else:
        entries = [layout(entry, levels - 1) for entry in value]
    inside = ",\n".join(entries)
    return f"{{\n{inside}\n}}" if isinstance(value, dict) else f"[\n{inside}\n]"


def main(names: list[str]) -> None:
    """Write the named files, or all."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        "workshop": lambda: network(workshop, "categorical_crossentropy"),
        "alexnet": lambda: network(alexnet, "binary_crossentropy"),
        "paul": lambda: network(paul, "categorical_crossentropy"),
        "optimizers": optimizers,
    }
    for name in names or jobs:
        (GOLDEN / f"{name}.json").write_text(layout(plain(jobs[name]())) + "\n")
        print(f"{name}.json written")


if __name__ == "__main__":
    main(sys.argv[1:])
