"""The networks of a step, student, teacher and localizer, and what changes their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.profiler import record_function

from argparser import Options
from dataset.batch import Batch
from engine.guarded import GuardedSGD
from methods import make_method
from methods.base import Iteration, Layered, Method, Prediction, Wondering, memory_of, pasting_of
from modules.description import Description
from modules.folding import count_norms, fold_norms
from modules.localizer import make_localizer
from modules.norm import convert_sync, is_norm, make_norm
from modules.recompute import recompute
from segmentation_module import Maps, Output, SegmentationModule, make_model, make_segmenter
from tasks import Task
from utils.distributed import Runtime
from utils.errors import UserError
from utils.normalisation import Normalisation
from utils.schedule import make_scheduler

# Devices on which folding norms was measured to be faster (benchmarks/results/step.md).
FOLDS_ON = {"cpu"}
AnyBody = TypeVar("AnyBody", bound=nn.Module)


class Student(nn.Module):
    """What a step trains: the segmenter and, for weak steps, the localizer on its features.

    Args:
        model: the segmenter.
        localizer: None where the method needs none.
        freeze: the body is not trained (``--freeze``), or not before ``--unfreeze_ep``; its norms use their running statistics.
        late: the body is trained from some epoch on.
        freeze_norm: the body's norms use their running statistics in training, too (``--freeze_norm``).
        layers: the losses look at several layers (``methods.base.Layered``).
        unknown: classifier of the unknown on the head's features; None where the method has none (``methods.base.Wondering``).
        freeze_head: the head is not trained; its norms use their running statistics.
    """

    def __init__(
        self,
        model: SegmentationModule,
        localizer: nn.Sequential | None,
        *,
        freeze: bool,
        freeze_norm: bool,
        layers: bool = False,
        unknown: nn.Conv2d | None = None,
        freeze_head: bool = False,
        late: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.localizer = localizer
        self.freeze = freeze
        self.freeze_norm = freeze_norm
        self.layers = layers
        self.unknown = unknown
        self.freeze_head = freeze_head
        if freeze_head:
            model.head.requires_grad_(False)
        # What is trained later has to be known to those who average gradients over ranks from the first iteration on. Until then
        # ``Networks.look`` is asked in its place.
        if freeze and not late:
            model.body.requires_grad_(False)

    def train(self, mode: bool = True) -> Student:
        """Training or evaluation mode; a frozen body, or frozen norms, always use their running statistics."""
        super().train(mode)
        if self.freeze:
            self.model.body.eval()
        fixed = [self.model.body] * self.freeze_norm + [self.model.head] * self.freeze_head
        for module in (module for part in fixed for module in part.modules()):
            if is_norm(module):
                module.eval()
        return self

    def forward(self, images: Tensor, maps: Maps | None = None, scenes: Maps | None = None) -> Prediction:
        """Outputs at feature size; the localizer's masks in both modes, because the weak step needs both.

        Args:
            images: (B, 3, H, W), normalised.
            maps: what the body gives for them, where it was asked already.
            scenes: what it gives for the images that the segmenter sees in place of them (``Networks.paste``); None: the same.
        """
        output = self.model(images, interpolate=False, maps=maps if scenes is None else scenes)
        if scenes is None or maps is None:
            body = output.features["body"]
        else:
            body = self.model.body_feature(maps, images.shape[-2:])
        layers = layers_of(output) if self.layers else ()
        unknown = None if self.unknown is None else self.unknown(output.features["head"])
        if self.localizer is None:
            return Prediction(output.logits, body, layers=layers, unknown=unknown)
        # Its first layer is a convolution without mode, and most of its work.
        hidden, rest = self.localizer[0](body), self.localizer[1:]
        self.localizer.eval()
        with torch.no_grad():
            # Some norms write over their input.
            fixed = rest(hidden.clone())
        self.localizer.train()
        return Prediction(output.logits, body, rest(hidden), fixed, layers, unknown)


def layers_of(output: Output) -> tuple[Tensor, ...]:
    """``Prediction.layers`` of what a segmenter says."""
    return tuple(output.features[name] for name in ("mid", "body", "head"))


@dataclass
class Networks:
    """The networks of a step, and the losses that they are for.

    Attributes:
        student: what is trained.
        model: the student's segmenter, as it is saved and asked: never the compiled one.
        localizer: the student's; None where the method needs none.
        teacher: the previous step's segmenter, frozen; None at step 0 and where nobody asks it.
        method: the losses.
        normalisation: of the images that the body wants.
        network: what an adopted segmenter is made from (``Description.network``); None for one of this project.
        late: the student's frozen body is to be trained from some epoch on (``thaw``).
        frozen_body: what sees the images in place of the student's frozen body; None where that is trained.
        teacher_body: what sees them in place of the teacher's; None where ``frozen_body`` serves both, or before ``settle``.
    """

    student: Student
    model: SegmentationModule
    localizer: nn.Sequential | None
    teacher: SegmentationModule | None
    method: Method
    normalisation: Normalisation
    network: Mapping[str, Any] | None = None
    late: bool = False
    frozen_body: nn.Module | None = None
    teacher_body: nn.Module | None = None

    def settle(self, runtime: Runtime, *, keep_teacher: bool, thawed: bool = False) -> list[str]:
        """Once the weights are given: make what sees the images in place of bodies that are not trained.

        Student and teacher share one pass where the student's body is frozen and has the teacher's weights and statistics, which are
        compared. On devices of ``FOLDS_ON`` norms are folded (``modules.folding``).

        Args:
            runtime: device and precision.
            keep_teacher: the teacher is asked after training, too, exactly as it was; else nothing is kept but what is folded.
            thawed: the run goes on after the frozen body's ``thaw``.

        Returns:
            what the log should say.
        """
        told, shared = [], False
        teacher = self.teacher if self.method.needs_teacher else None
        if self.student.freeze and not thawed:
            self.frozen_body, folded = _asked_body(self.model.body, runtime)
            told.append(f"Frozen body: {folded}")
            if teacher is not None:
                shared = _same_weights(self.model.body, teacher.body)
                passes = "one pass of it serves both" if shared else "each has its own pass"
                told.append(f"The teacher's body is {'the same' if shared else 'another one'}: {passes}")
        if teacher is not None and shared:
            # One of them in memory, unless one is to change.
            if not self.late:
                teacher.body = self.model.body
        elif teacher is not None:
            told.append(self._settle_teacher(teacher, runtime, keep_teacher))
        return told

    def thaw(self, runtime: Runtime, *, keep_teacher: bool) -> list[str]:
        """From now on the frozen body is trained, and the teacher's is another one; arguments and result as of ``settle``."""
        if self.frozen_body is None:
            return []
        self.frozen_body = None
        told = ["The body is trained from now on"]
        if self.teacher is not None and self.method.needs_teacher and self.teacher_body is None:
            told.append(self._settle_teacher(self.teacher, runtime, keep_teacher))
        return told

    def _settle_teacher(self, teacher: SegmentationModule, runtime: Runtime, keep: bool) -> str:
        """Make what sees the images in place of the teacher's body; what the log should say."""
        self.teacher_body, folded = _asked_body(teacher.body, runtime)
        if not keep:
            teacher.body = self.teacher_body
        return f"Teacher's body: {folded}"

    def look(self, images: Tensor) -> Maps | None:
        """A frozen body's maps of ``images`` (B, 3, H, W); None where the student's body is trained."""
        if self.frozen_body is None:
            return None
        with record_function("part: body"), torch.no_grad():
            maps: Maps = self.frozen_body(self.model.body_input(images))
            return maps

    def teach(self, images: Tensor, maps: Maps | None = None) -> Prediction | None:
        """The teacher's outputs for ``images`` (B, 3, H, W) at feature size; None where no loss needs them.

        Args:
            images: normalised.
            maps: what ``look`` gave for them.
        """
        if self.teacher is None or not self.method.needs_teacher:
            return None
        with record_function("part: teacher"), torch.no_grad():
            if self.teacher_body is not None:
                maps = self.teacher_body(self.teacher.body_input(images))
            output = self.teacher(images, interpolate=False, maps=maps)
            layers = layers_of(output) if self.student.layers else ()
            return full_precision(Prediction(output.logits, output.features["body"], layers=layers))

    def paste(self, batch: Batch, maps: Maps | None, iteration: Iteration) -> tuple[Maps, Tensor] | None:
        """What the segmenter sees in place of a batch where objects are pasted into it (``--paste``).

        It costs the body one more look at the images that get an object, and the localizer one at those that give it.

        Args:
            batch: on the device.
            maps: what ``look`` gave for its images.
            iteration: whose random numbers are drawn.

        Returns:
            the body's maps, and (B, N, h, w) what of the images is a pasted object of a new class; None where nothing is pasted.
        """
        pasting = pasting_of(self.method)
        if pasting is None or maps is None or self.localizer is None:
            return None
        pairs = pasting.pairs(iteration.epoch, iteration.number, iteration.rank, iteration.world)
        if not pairs.scenes:
            return None
        with record_function("part: paste"), torch.no_grad():
            giving = self.model.body_feature([level[pairs.donors] for level in maps], batch.images.shape[-2:])
            self.localizer.eval()
            probabilities = self.localizer(giving).float().softmax(dim=1)
            self.localizer.train()
            images, claims = pasting(batch.images, probabilities, batch.image_labels, pairs)
            seen = self.look(self.normalisation.apply(images))
            assert seen is not None
            scenes = torch.tensor(pairs.scenes).to(batch.images.device, non_blocking=True)
            mixed = [level.index_copy(0, scenes, own) for level, own in zip(maps, seen, strict=True)]
            every = claims.new_zeros(len(batch.images), *claims.shape[1:]).index_copy(0, scenes, claims)
            return mixed, every

    def compile(self) -> None:
        """Train the segmenter compiled (``--compile``); its weights stay those of ``model``."""
        self.student.model = torch.compile(self.model)  # type: ignore[assignment]
        if self.frozen_body is not None:
            self.frozen_body = torch.compile(self.frozen_body)  # type: ignore[assignment]


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights and statistics, bit for bit."""
    own, others = one.state_dict(), other.state_dict()
    return own.keys() == others.keys() and all(torch.equal(value, others[key]) for key, value in own.items())


def _asked_body(body: AnyBody, runtime: Runtime) -> tuple[AnyBody, str]:
    """What sees the images in place of a body that is not trained, and what the log says of it."""
    asked = fold_norms(body, runtime.dtype) if runtime.device.type in FOLDS_ON else body
    count = count_norms(body)
    return asked, f"{count - count_norms(asked)} of {count} norms folded into convolutions"


def full_precision(prediction: Prediction) -> Prediction:
    """Losses are computed in float32 whatever the networks ran in."""

    def up(value: Tensor | None) -> Any:
        return value.float() if value is not None and value.dtype in (torch.float16, torch.bfloat16) else value

    return replace(
        prediction,
        logits=up(prediction.logits),
        body=up(prediction.body),
        localizer=up(prediction.localizer),
        localizer_eval=up(prediction.localizer_eval),
        layers=tuple(map(up, prediction.layers)),
        unknown=up(prediction.unknown),
    )


def make_networks(
    options: Options,
    task: Task,
    runtime: Runtime,
    network: Mapping[str, Any] | None = None,
    names: Sequence[str] = (),
) -> Networks:
    """The networks of ``options.step`` with the random weights of ``options.random_seed``.

    The order of the calls is that of the random draws: student, teacher, localizer.

    Args:
        options: the run's.
        task: which classes are learned when.
        runtime: device and precision.
        network: what an adopted segmenter is made from; None for one of this project.
        names: of the student's channels; their classes' numbers where none are given.

    Raises:
        UserError: an unknown body, norm or method, or a stride that the body lacks.
    """
    step = options.step
    old, total = len(task.old(step)), len(task.seen(step))
    torch.manual_seed(options.random_seed)
    model = _segmenter(options, task, step, network)
    if options.recompute:
        recompute(model.body, f"--backbone {options.backbone}")
    normalisation = Normalisation.of(model.body, options.image_stats)
    method = make_method(options, old, total, names or [str(i) for i in task.seen(step)])
    memory = memory_of(method)
    if memory is not None:
        memory.to(runtime.device)
    teacher = None
    if step > 0 and (options.report or (method.needs_teacher and not options.test)):
        teacher = _segmenter(options, task, step - 1, network).to(runtime.device).to(memory_format=torch.channels_last)
        teacher.requires_grad_(False).eval()
    localizer = None
    if method.needs_localizer:
        localizer = make_localizer(model.body.out_channels, total, make_norm(options.norm_act))
    unknown, freeze_head, late = None, False, options.unfreeze_ep is not None
    if isinstance(method, Wondering) and method.needs_unknown:
        last = model.cls[0]
        assert isinstance(last, nn.Conv2d)
        unknown, freeze_head = nn.Conv2d(last.in_channels, 1, 1), method.freezes_head
    student = Student(
        model,
        localizer,
        freeze=options.freeze,
        freeze_norm=options.freeze_norm,
        layers=isinstance(method, Layered) and method.needs_layers,
        unknown=unknown,
        freeze_head=freeze_head,
        late=late,
    ).to(runtime.device)
    # Channels last is what convolutions like best: 1.1 to 1.6 times as fast on a CPU (benchmarks/results/step.md).
    student.to(memory_format=torch.channels_last)
    return Networks(student, model, localizer, teacher, method, normalisation, network, late)


def _segmenter(options: Options, task: Task, step: int, network: Mapping[str, Any] | None) -> SegmentationModule:
    synchronised = options.norm_act.endswith("_sync")
    if network is not None:
        steps = tuple(map(tuple, task.steps[: step + 1]))
        adopted = make_segmenter(Description(network, steps, tuple(map(str, task.seen(step))), binary=True))
        # Head and body have the library's norms.
        if synchronised:
            convert_sync(adopted)
        return adopted
    model = make_model(
        backbone=options.backbone,
        output_stride=options.output_stride,
        norm_act=options.norm_act,
        classes=task.classes_per_step(step),
        pooling=options.pooling,
    )
    if synchronised:
        convert_sync(model.body)
    return model


def check_norms(networks: Networks, runtime: Runtime, images: int, crop: int) -> None:
    """Refuse a batch of which a norm of the student would see one value a channel, which has no variance.

    Nothing is trained, and the running statistics stay as they are.

    Args:
        networks: the step's.
        runtime: device, precision and ranks.
        images: of a batch, on this rank; only a single one is tried.
        crop: side of the training crops, pixels.

    Raises:
        UserError: names the batch and the crop.
    """
    if images > 1:
        return
    student = networks.student
    kept = [(buffer, buffer.clone()) for buffer in student.buffers()]
    student.train()
    devices = [runtime.device] if runtime.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), runtime.autocast():
            student(torch.zeros(images, 3, crop, crop, device=runtime.device))
    except (UserError, ValueError) as error:
        if "value per channel" not in str(error):
            raise
        raise UserError(
            f"a process sees {images} image of a batch, with --crop_size {crop} too few for batch norm, which needs more "
            "than one value per channel: give at least twice the --batch_size"
        ) from error
    finally:
        for buffer, value in kept:
            buffer.copy_(value)


@dataclass(frozen=True)
class Optimisation:
    """What changes the weights.

    Attributes:
        optimizer: over the student's parameters.
        scheduler: of its learning rates, once an iteration.
        scaler: the loss scaling that fp16 needs.
        iters_per_epoch: iterations of the epochs that the schedule is made for.
    """

    optimizer: GuardedSGD
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler
    iters_per_epoch: int

    def update(self, blocked: Tensor | None = None) -> None:
        """One step by the gradients; where ``blocked``, () float32 on their device, is 1, the weights stay as they are."""
        self.optimizer.blocked = blocked
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()


def make_optimisation(options: Options, networks: Networks, runtime: Runtime, iters_per_epoch: int) -> Optimisation:
    """SGD for body, head, classifiers and localizer, each with its own learning rate.

    The rates are those of docs/method.md, "The base step" and docs/method.md, "One weak iteration".
    The order of the groups is the checkpoints'.

    Args:
        options: learning rates and schedule.
        networks: whose weights.
        runtime: device and precision.
        iters_per_epoch: iterations of an epoch; the schedule is for ``options.epochs`` of them.
    """
    groups: list[dict[str, Any]] = []
    if not options.freeze or networks.late:
        groups.append({"params": list(networks.model.body.parameters()), "lr": options.lr * options.lr_body})
    for part in (networks.model.head, networks.model.cls):
        groups.append({"params": list(part.parameters()), "lr": options.lr * options.lr_head})
    unknown = networks.student.unknown
    if unknown is not None:
        groups.append({"params": list(unknown.parameters()), "lr": options.lr * options.lr_head})
    if networks.student.freeze_head:
        # What no loss teaches stays as it is.
        groups = [group | {"weight_decay": 0.0} for group in groups]
    if networks.localizer is not None:
        groups.append({"params": list(networks.localizer.parameters()), "lr": options.lr_pseudo})
    optimizer = GuardedSGD(
        groups,
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        nesterov=options.momentum > 0,
    )
    scheduler = make_scheduler(
        optimizer,
        options.lr_policy,
        options.epochs * iters_per_epoch,
        power=options.lr_power,
        start_decay=options.pseudo_ep * iters_per_epoch,
        step_size=options.lr_decay_step,
        gamma=options.lr_decay_factor,
    )
    return Optimisation(optimizer, scheduler, runtime.scaler(), iters_per_epoch)


def checksum(network: nn.Module) -> int:
    """A number that is the same where all weights are, bit for bit, whatever device they are on."""
    total = 0
    for value in network.state_dict().values():
        # Bytes, so that it does not matter how a machine rounds.
        total += int(value.detach().contiguous().reshape(-1).view(torch.uint8).sum(dtype=torch.int64))
    return total
