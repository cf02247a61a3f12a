"""What may stand behind ``--backbone``, ``--norm_act`` and ``--method``: names, and the modules that make what they name.

The command line lists these names and refuses all others; ``modules.bodies``, ``modules.norm`` and ``methods`` import the modules. Nothing
is imported here. A new one is a file (or a function in one that is there) and one line in a table.
"""

from __future__ import annotations

# Name -> module with ``make(name, output_stride, norm) -> Body``; a colon at the end takes any name behind it.
BODIES = {
    "resnet50": "modules.resnet",
    "resnet101": "modules.resnet",
    "wider_resnet38_a2": "modules.wide_resnet",
    "timm:": "modules.timm_body",
}
# The network of an earlier step's checkpoint, which was trained elsewhere.
ADOPTED = "adopted"
# Name -> module with ``make(name)``, which gives the layer's constructor: channels -> layer.
NORMS = {
    "iabn_sync": "modules.norm",
    "iabn": "modules.norm",
    "abn_sync": "modules.norm",
    "abn": "modules.norm",
    "inplace_abn": "modules.norm",
    "inplace_abn_sync": "modules.norm",
}
# Name -> module:class with ``from_options`` and ``losses`` (``methods.base.Method``).
METHODS = {
    "supervised": "methods.supervised:Supervised",
    "plop": "methods.plop:Plop",
    "ssul": "methods.ssul:Ssul",
    "weak": "methods.weak:Weak",
    "rasp": "methods.rasp:Rasp",
}
# Of these: what learns from masks and what from image labels; what needs a previous step, or gives each class a probability of its own
# (binary cross entropy) whatever the other options say.
PIXEL_METHODS, IMAGE_METHODS = ("supervised", "plop", "ssul"), ("weak", "rasp")
LATER_METHODS, BINARY_METHODS = ("plop", "weak", "rasp"), ("ssul", "weak", "rasp")
# Names of options that change the losses or the start of a method, and are none of these methods' own.
FOREIGN = {
    "rasp": ("likeness",),
    "plop": ("bce", "unce", "unkd", "icarl"),
    "ssul": ("unce", "unkd", "icarl", "loss_kd", "loss_de", "init_balanced"),
}


def body_module(name: str) -> str | None:
    """Module of the body called ``name``; None where there is no such body."""
    family, colon, own = name.partition(":")
    return BODIES.get(family + colon) if own or not colon else None


def body_names() -> list[str]:
    """The bodies as ``--help`` and refusals show them."""
    return [*(f"{name}<name>" if name.endswith(":") else name for name in BODIES), ADOPTED]
