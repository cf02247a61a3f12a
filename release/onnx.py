"""Files of ONNX, drawn by torch.export, checked in onnxruntime (``pip install -e .[onnx]``)."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from release.checking import Check, check, running
from release.forms import IDS, LOGITS, UINT8, Form
from release.metadata import metadata
from release.tracing import Drawing, draw
from segmentation_module import Segmenter
from utils.errors import UserError, reason
from utils.whole import whole_file

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
# Protocol buffers, of which an ONNX file is one, end here.
MOST_BYTES = 2**31 - 1
IMAGES = "images"


def export(segmenter: Segmenter, path: Path, form: Form) -> tuple[Drawing, Check]:
    """Write a file of ONNX: input ``images``, output ``ids`` or ``logits``, as the form says.

    Args:
        segmenter: on the CPU, in float32.
        path: the file; it is written only where it computes what the segmenter does.
        form: input, output and size.

    Raises:
        UserError: a package is missing, the network cannot be exported, the file differs from it or cannot be written.
    """
    packages = _packages()
    drawing = draw(segmenter, form)
    model = _convert(drawing.program, form, segmenter.where)
    packages["onnx"].helper.set_model_props(model, metadata(segmenter, form, drawing.smallest))
    content = model.SerializeToString()
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
        with running(path):
            run = _runner(packages, temporary.read_bytes(), form)
            done = check(run, segmenter, form, drawing.smallest, path)
    return drawing, done


def _packages() -> dict[str, Any]:
    try:
        return {name: importlib.import_module(name) for name in PACKAGES}
    except ImportError as error:
        raise UserError(f"--format onnx: the package {error.name} is not installed (pip install -e .[onnx])") from error


def _convert(program: ExportedProgram, form: Form, where: str) -> Any:
    """The ONNX model of a graph, its dimensions named, without notes on whose code it came from."""
    try:
        with _quiet():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[IMAGES],
                output_names=[form.answer],
                opset_version=OPSET,
                verbose=False,
            )
        assert converted is not None
        model = converted.model_proto
        size = model.ByteSize()
    except Exception as error:  # The exporter's errors have no common class.
        raise UserError(f"{where}: the exporter of ONNX cannot write its graph ({reason(error)})") from error
    if size > MOST_BYTES:
        raise UserError(
            f"{where}: {size / 2**30:.1f} GiB, and an ONNX file ends at 2 GiB; --format pt2 has no such end"
        )
    graph = model.graph
    names = ("batch", "height", "width")
    for value, axes in ((graph.input[0], (0, 1, 2) if form.pixels == UINT8 else (0, 2, 3)),
                        (graph.output[0], (0, 1, 2) if form.answer == IDS else (0, 2, 3))):  # fmt: skip
        dimensions = value.type.tensor_type.shape.dim
        for axis, name in zip(axes, names, strict=True):
            if not dimensions[axis].HasField("dim_value"):
                dimensions[axis].dim_param = name
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info, graph, model):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    # Shapes of what lies between speak of dimensions by other names.
    graph.ClearField("value_info")
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself while it works."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _runner(packages: dict[str, Any], content: bytes, form: Form) -> Any:
    """Images -> outputs, in onnxruntime on the CPU; logits too where the file gives class ids, which are their greatest."""
    onnx, onnxruntime = packages["onnx"], packages["onnxruntime"]
    outputs = [form.answer]
    if form.answer == IDS:
        model = onnx.load_from_string(content)
        *_, greatest = (node for node in model.graph.node if node.op_type == "ArgMax")
        model.graph.output.append(onnx.helper.make_tensor_value_info(greatest.input[0], onnx.TensorProto.FLOAT, None))
        outputs.append(greatest.input[0])
        content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> dict[str, Tensor]:
        values = session.run(outputs, {IMAGES: images.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip((form.answer, LOGITS), values, strict=False)}

    return run
