"""Segment an image by a file of ``export.py --format onnx``: python examples/run_onnx.py FILE.onnx IMAGE OUT.png"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

file, image, out = sys.argv[1:]
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
said = session.get_modelmeta().custom_metadata_map
ids, names, palette = (json.loads(said[key]) for key in ("class_ids", "class_names", "palette"))
pixels = np.asarray(ImageOps.exif_transpose(Image.open(image)).convert("RGB"))[None]
if session.get_inputs()[0].type == "tensor(float)":
    pixels = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
(answer,) = session.run(None, {"images": pixels})
mask = answer[0] if said["output"] == "ids" else np.array(ids, np.uint8)[answer[0].argmax(0)]
picture = Image.fromarray(mask)
picture.putpalette([value for number in range(256) for value in palette.get(str(number), (0, 0, 0))])
picture.save(out)
for number, name in zip(ids, names, strict=True):
    print(f"{name}: {(mask == number).mean():.1%}")
