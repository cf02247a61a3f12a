"""Collecting web images: candidates of each source, class by class, examined, compared with what is there, and kept or refused."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from utils.cores import available
from utils.errors import UserError, shown_text
from utils.images import DecodeError
from web.candidate import LONGEST_TEXT, Candidate, Query, Refused, examine, shown, slugs
from web.crew import Crew
from web.download import Client
from web.duplicates import Fingerprint, Index, fingerprint
from web.fingerprints import Fingerprints, image_files
from web.sources import check, search
from web.store import FINGERPRINTS, Store, Taken

# Seconds that threads have to end when a run ends; one that hangs in a name server's answer is left behind.
LAST_WAIT = 2.0
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Plan:
    """What is collected.

    Attributes:
        classes: their names, which are also what is searched for.
        sources: ``NAME[:ARGUMENT]``, asked one after the other until a class has enough.
        per_class: images of each class, those of earlier runs included.
        max_total: size of all images in the folder, in MB.
        not_in: images, and folders of images, that nothing collected may show: the evaluation set.
        near: bits of 64 that the hashes of near-duplicates may differ in.
        threads: downloads at the same time.
    """

    classes: list[str]
    sources: list[str]
    per_class: int = 500
    max_total: float = 50_000
    not_in: list[Path] = field(default_factory=list)
    near: int = 10
    threads: int = 8

    def __post_init__(self) -> None:
        for option in ("per_class", "max_total", "threads"):
            if not getattr(self, option) > 0:
                raise UserError(f"--{option} {getattr(self, option)}: a number above 0 is needed")
        if not 0 <= self.near <= 64:
            raise UserError(f"--near {self.near}: a number of bits from 0 to 64 is needed")


@dataclass(frozen=True)
class ClassCount:
    """What is known of a class, earlier runs included: candidates found, images kept, refused for what."""

    name: str
    kept: int
    refused: Counter[str]

    @property
    def found(self) -> int:
        """Candidates that were looked at."""
        return self.kept + self.refused.total()


@dataclass(frozen=True)
class Collected:
    """What a run ended with.

    Attributes:
        counts: of each class.
        troubles: sentences, one for each thing that went wrong though the rest went on.
        notes: sentences likewise, for what was left out and is no fault.
    """

    counts: list[ClassCount]
    troubles: list[str]
    notes: list[str] = field(default_factory=list)


class Full(Exception):
    """The folder holds as much as it may."""


def collect(plan: Plan, client: Client, out: Path) -> Collected:
    """Collect images into ``out``; goes on with a folder that is there.

    The results of downloads are taken in the order of the candidates, so that the same answers give the same images under the same
    numbers, however many threads there are. Never more candidates are under way than images are wanted.

    Raises:
        UserError: a class, source, option or the folder cannot work, or the disk is full.
    """
    folders = slugs(plan.classes)
    for source in plan.sources:
        check(source, client)
    guarded, others = image_files(plan.not_in)
    notes = [f"--not_in: {len(others)} things are no images and are left out ({shown(others)})"] if others else []
    try:
        with closing(Store(out, folders)) as store, closing(Fingerprints(out / FINGERPRINTS)) as prints:
            crew = Crew(plan.threads)
            try:
                return Collector(plan, client, store, prints, crew, notes).run(guarded)
            finally:
                client.stop()
                crew.close(LAST_WAIT)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}; what was collected is kept") from error


class Collector:
    """One run: fills class after class from source after source."""

    def __init__(
        self, plan: Plan, client: Client, store: Store, prints: Fingerprints, crew: Crew, notes: Sequence[str] = ()
    ) -> None:
        self.plan, self.client, self.store, self.prints, self.crew = plan, client, store, prints, crew
        self.guarded, self.collected = Index(plan.near), Index(plan.near)
        self.troubles: list[str] = []
        self.notes = list(notes)
        # More decoding at once than there are cores would take memory and no time less.
        self._decoding = threading.BoundedSemaphore(available())

    def run(self, guarded: list[Path]) -> Collected:
        """Collect; ``guarded`` are the image files that nothing collected may show."""
        self._learn(self.guarded, [(str(path), path) for path in guarded], "Evaluation images")
        self._learn(self.collected, [(path, self.store.out / path) for path in self.store.paths], "Earlier images")
        try:
            for name in self.plan.classes:
                self._fill(name)
        except Full:
            self.troubles.append(
                f"{self.store.out}: --max_total {self.plan.max_total:g} MB are reached; collecting ended"
            )
        counts = [ClassCount(n, self.store.kept[n], self.store.refused[n]) for n in self.plan.classes]
        self.troubles += [f"no image of {count.name} ({count.found} candidates)" for count in counts if not count.kept]
        self.troubles += self.client.given_up()
        return Collected(counts, list(dict.fromkeys(self.troubles)), list(dict.fromkeys(self.notes)))

    def _learn(self, index: Index, files: list[tuple[str, Path]], title: str) -> None:
        prints = self.prints.of_files(files, self.crew)
        faults = []
        for name, print_ in tqdm(prints, desc=title, total=len(files), disable=None if files else True, leave=False):
            if isinstance(print_, DecodeError):
                faults.append(print_)
            else:
                index.add(print_, name)
        if faults:
            self.troubles.append(
                f"{title}: {len(faults)} of {len(files)} cannot be read ({shown(faults)}); whether a candidate shows them cannot be told"
            )

    def _fill(self, name: str) -> None:
        """Collect one class."""
        wanted, kept = self.plan.per_class, self.store.kept[name]
        with tqdm(desc=shown_text(name), total=wanted, initial=min(kept, wanted), unit="image", disable=None) as bar:
            for source in self.plan.sources:
                query = Query(name, classes=self.plan.classes)
                with closing(self._jobs(source, query)) as jobs:
                    for (candidate, part), future in self.crew.in_order(jobs, lambda: wanted - self.store.kept[name]):
                        bar.update(self._settle(query, candidate, part, future))
                        bar.set_postfix(refused=self.store.refused[name].total(), refresh=False)
                self.troubles += [f"{source}: {trouble}" for trouble in query.troubles]
                self.notes += [f"{source}: {note}" for note in query.notes]

    def _jobs(
        self, source: str, query: Query
    ) -> Generator[tuple[tuple[Candidate, Path], Callable[[], Taken]], None, None]:
        """What is to be done for the candidates of a source; a source that fails ends."""
        with closing(search(source, query, self.client)) as candidates:
            try:
                for candidate in self.store.fresh(candidates, query.name):
                    part = self.store.part(query.name)
                    yield (candidate, part), partial(self._take, candidate, part)
            except (Refused, UserError) as error:
                query.troubles.append(f"failed for {query.name}: {error}")

    def _take(self, candidate: Candidate, part: Path) -> Taken:
        """Fetch a candidate and look at it; in a thread.

        Raises:
            Refused: it is not taken.
        """
        content = self._content(candidate)
        with part.open("xb") as file:
            file.write(content)
        with self._decoding:
            picture = examine(part, self.client.limits)
            width, height = picture.image.size
            try:
                print_ = fingerprint(content, picture.image)
            except Exception as error:  # As in ``examine``.
                raise Refused(f"damaged: {type(error).__name__} {error}") from error
            return Taken(part, picture.suffix, len(content), width, height, print_)

    def _content(self, candidate: Candidate) -> bytes:
        most = self.client.limits.max_bytes
        if len(candidate.url) >= LONGEST_TEXT:
            raise Refused("address too long")
        if candidate.content is None:
            return self.client.get_image(candidate.url)
        if isinstance(candidate.content, bytes):
            content = candidate.content
        else:
            try:
                with candidate.content.open("rb") as file:
                    content = file.read(most + 1)
            except OSError as error:
                raise Refused(f"cannot be read: {error.strerror}") from error
        if len(content) > most:
            raise Refused("too many bytes")
        return content

    def _settle(self, query: Query, candidate: Candidate, part: Path, future: Future[Taken]) -> int:
        """Keep or refuse a candidate; the number of images that this gives, 0 or 1."""
        try:
            taken = future.result()
            self._refuse_double(self.store.folders[query.name], taken.print_)
        except Refused as refused:
            part.unlink(missing_ok=True)
            self.store.refuse(query.name, candidate, refused.reason)
            return 0
        if self.store.total + taken.size > self.plan.max_total * MEGABYTE:
            raise Full
        path = self.store.keep(query, candidate, taken)
        self.collected.add(taken.print_, path)
        self.prints.add(path, self.store.out / path, taken.print_)
        return 1

    def _refuse_double(self, folder: str, print_: Fingerprint) -> None:
        same, near = self.guarded.same_file(print_), self.guarded.near_duplicate(print_)
        if same is not None:
            raise Refused(f"is an evaluation image: {same}")
        if near is not None:
            raise Refused(f"shows an evaluation image: {near}")
        same, near = self.collected.same_file(print_), self.collected.near_duplicate(print_)
        other = "" if (same or near or "").startswith(f"{folder}/") else " in another class"
        if same is not None:
            raise Refused(f"same file{other}: {same}")
        if near is not None:
            raise Refused(f"near-duplicate{other}: {near}")
