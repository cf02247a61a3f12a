"""Limits of batches and of arithmetic: the command line asks before torch is loaded, the engine where it counts.

Nothing heavy is imported here, so that both ask the same function.
"""

from __future__ import annotations

from collections.abc import Mapping

from utils.errors import UserError, printable
from utils.texts import composed

# What stands behind --precision; ``utils.distributed`` says what each is.
PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
# Of the discriminator, whose losses nobody scales as fp16 needs it.
UNSCALED_PRECISIONS = tuple(name for name in PRECISIONS if name != "fp16")


def images_per_rank(batch_size: int, world: int) -> int:
    """Images of a batch that each of ``world`` processes sees.

    Raises:
        UserError: the batch cannot be shared equally.
    """
    if batch_size % world:
        raise UserError(f"--batch_size {batch_size} cannot be shared by {world} processes: give a multiple of {world}")
    return batch_size // world


def replay_images(batch_size: int, share: float) -> int:
    """Replay images of a batch of which they are the ``share``, between 0 and 1.

    Raises:
        UserError: the batch cannot be divided so, or would hold one kind of images alone.
    """
    count = round(share * batch_size)
    if not 0 < count < batch_size or abs(count - share * batch_size) > 1e-6:
        raise UserError(
            f"--batch_size {batch_size} cannot be divided so that --replay_share {share:g} of it are replay images; "
            "with a half give an even number"
        )
    return count


def replay_places(batch_size: int, share: float) -> list[bool]:
    """Which places of a batch over all ranks are replay images: evenly spread, so that ranks get equally many.

    Raises:
        UserError: as of ``replay_images``.
    """
    count = replay_images(batch_size, share)
    # Where the whole part of place x share grows.
    return [(i + 1) * count // batch_size > i * count // batch_size for i in range(batch_size)]


def check_pairs(batch_size: int, share: float, world: int) -> None:
    """Every replay image must be on the rank of the new image before it, which gives it an object (``--paste``).

    Raises:
        UserError: a rank's images begin with a replay image, that of another rank before them.
    """
    places = replay_places(batch_size, share)
    each = images_per_rank(batch_size, world)
    if any(places[rank * each] for rank in range(world)):
        raise UserError(
            f"--paste: {world} processes part replay images of --batch_size {batch_size} from the new ones before them; "
            f"with a half of each give a multiple of {2 * world}"
        )


def other_class(there: Mapping[int, str], here: Mapping[int, str]) -> str:
    """The first class that has two names, "class 1 is apple there and hammer here"; "" where all that both sides number agree.

    Blanks around a name, a byte order mark and the form of Unicode do not count: earlier versions read them as part of it.
    """
    # Of 0, the background, nobody chooses the name.
    for number in sorted((there.keys() & here.keys()) - {0}):
        one, other = (composed(side[number].strip("\ufeff \t")) for side in (there, here))
        if one != other:
            return f"class {number} is {printable(one)} there and {printable(other)} here"
    return ""


def check_precision(precision: str, device: str) -> None:
    """Refuse arithmetic that a device (``cpu``, ``cuda`` ...) lacks.

    Raises:
        UserError: fp16 or tf32 on the CPU.
    """
    if precision in ("fp16", "tf32") and device == "cpu":
        raise UserError(f"--precision {precision} needs a GPU; on the CPU use fp32 or bf16")
