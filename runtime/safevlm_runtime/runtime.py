"""`Runtime`: an image in, a verdict out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from time import perf_counter
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.backends.ort_backend import SessionOptions
from safevlm_runtime.backends.providers import in_order
from safevlm_runtime.bundle.loading import PolicySource, Wish, close_gates, load_gates, policy_from, starter_folder
from safevlm_runtime.described import Described
from safevlm_runtime.guard.conversation import MAX_IMAGES
from safevlm_runtime.guard.guard import Guard, OnVerdict
from safevlm_runtime.judging.batches import BATCH
from safevlm_runtime.judging.checker import Checker
from safevlm_runtime.judging.fusion import with_total
from safevlm_runtime.judging.gate import Gate
from safevlm_runtime.judging.many import judge_many
from safevlm_runtime.judging.observer import Observer
from safevlm_runtime.judging.rulebook import Rulebook, Today
from safevlm_runtime.judging.screening import Screening
from safevlm_runtime.judging.video import Sampling, VideoLimits, VideoSource
from safevlm_runtime.judging.video.verdict import judge_video
from safevlm_runtime.judging.watch import Voting, Watch
from safevlm_sdk.effective_policy import utc_today
from safevlm_sdk.engine import Engine
from safevlm_sdk.errors import BundleError
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.policy import Policy
from safevlm_sdk.raster import ImageSource, Limits, Raster
from safevlm_sdk.verdict import Verdict


class Runtime(Described):
    """One or several bundles, loaded and proven, that judge images from any thread.

    Build it with `Runtime.load` or `Runtime.starter`, use it in a `with` block or call `close`. Once it is loaded it
    reads no file of a bundle again.

    Args:
        gates: What `load` makes of bundles.
        limits: What an image may cost.
        isolate_decoding: Decode in a child process.
        today: The day in UTC, on which overrides of a policy expire.
        cache_entries: Most verdicts that are kept for pixels that come again; 0 keeps none.
    """

    def __init__(
        self,
        gates: Sequence[Gate],
        *,
        limits: Limits | None = None,
        isolate_decoding: bool = False,
        today: Today = utc_today,
        cache_entries: int = 0,
    ) -> None:
        self._limits, self._today = Limits() if limits is None else limits, today
        # A check reads this once; a reload replaces it as a whole.
        self._rules = self._rulebook(gates, [gate.policy for gate in gates])
        self._checker = Checker(gates, isolate_decoding=isolate_decoding, cache_entries=cache_entries)

    @classmethod
    def load(  # noqa: PLR0913 - the options of the one public constructor, all with defaults
        cls,
        *paths: str | os.PathLike[str],
        policy: PolicySource | None = None,
        provider: str | Sequence[str] = "cpu",
        digest: str | Sequence[str] | None = None,
        threads: int | None = None,
        limits: Limits | None = None,
        allow_uncalibrated: bool = False,
        isolate_decoding: bool = False,
        engine_seconds: float = 2.0,
        precision: str | None = None,
        public_key: str | os.PathLike[str] | None = None,
        cache_entries: int = 0,
    ) -> Runtime:
        """Reads bundles, builds their sessions and has each prove itself on its golden inputs.

        Args:
            *paths: Folders of bundles; an image is decoded once for all of them and the worst decision wins.
            policy: Instead of each bundle's own: a policy, or the path of a TOML file.
            provider: "cpu", "cuda", "tensorrt", "tensorrt-rtx", "ort-tensorrt", "ort-tensorrt-rtx", "openvino",
                "openvino:GPU" or "openvino:NPU". What is not there is an error; nothing falls back. Several are tried
                in the order given, and a RuntimeWarning tells what kept the earlier ones from being used.
            digest: `sha256:…` that the bundle must have; one per path for several.
            threads: Threads within one operator; None leaves it to ONNX Runtime, or OpenVINO.
            limits: What an image may cost; `frames` and `mpo` are the policy's.
            allow_uncalibrated: Load bundles whose decisions were never proven.
            isolate_decoding: Decode in a child process with limited means; POSIX only.
            engine_seconds: Wall time of one run of a graph, per image of its batch.
            precision: "fp32", "fp16", "bf16", "int8", "w8" or "w4"; None takes what is usually fastest there.
            public_key: PEM file of the key that must have signed every bundle; needs the extra `sign`.
            cache_entries: Most verdicts that are kept for pixels that come again; 0 keeps none.

        Raises:
            BundleError: A bundle is refused; each reason has its own class.
            PolicyError: The policy is not valid, or wants what no bundle covers and refuses to go on.
            ProviderError: The provider is not the one in use; DeviceMissing where its device is not there.
            MissingExtra: What the provider needs is not installed.
        """
        gates = in_order(
            provider,
            lambda one: load_gates(
                paths,
                Wish(
                    policy=policy,
                    digest=digest,
                    session=SessionOptions(provider=one, threads=threads, engine_seconds=engine_seconds),
                    allow_uncalibrated=allow_uncalibrated,
                    precision=precision,
                    public_key=public_key,
                ),
            ),
        )
        try:
            return cls(gates, limits=limits, isolate_decoding=isolate_decoding, cache_entries=cache_entries)
        except BaseException:
            close_gates(gates)
            raise

    @classmethod
    def starter(  # noqa: PLR0913 - as `load`
        cls,
        *,
        policy: PolicySource | None = None,
        provider: str | Sequence[str] = "cpu",
        digest: str | None = None,
        threads: int | None = None,
        limits: Limits | None = None,
        allow_uncalibrated: bool = False,
        isolate_decoding: bool = False,
        engine_seconds: float = 2.0,
        precision: str | None = None,
    ) -> Runtime:
        """Loads the starter bundle that ships in the package; see `load`.

        Raises:
            BundleMissing: This installation has no starter bundle.
        """
        return cls.load(
            starter_folder(),
            policy=policy,
            provider=provider,
            digest=digest,
            threads=threads,
            limits=limits,
            allow_uncalibrated=allow_uncalibrated,
            isolate_decoding=isolate_decoding,
            engine_seconds=engine_seconds,
            precision=precision,
        )

    def raster(self, image: ImageSource) -> Raster:
        """The canonical raster of an image: what `check` judges and what may go on to an engine.

        Raises:
            ImageError: The image cannot be judged.
        """
        return self._checker.raster(image, self._rules.limits)

    def check(self, image: ImageSource, prompt: str | None = None, *, source: str | None = None) -> Verdict:
        """Judges one image.

        Args:
            image: A path, encoded bytes, a binary file, a PIL image or uint8 RGB pixels [H, W, 3].
            prompt: Reserved; the verdict speaks of the image alone.
            source: Where the image comes from, said by the application and never by the image's sender: the policy
                may have rules of its own for it. The general rules hold for a source that it does not name.

        Returns:
            The verdict. A bad image or a failing engine gives one with `error` set; nothing is raised for them.
        """
        return self.screen(image, source=source).verdict

    async def acheck(self, image: ImageSource, prompt: str | None = None, *, source: str | None = None) -> Verdict:
        """`check` in a thread, so that an event loop goes on."""
        return (await self.ascreen(image, source=source)).verdict

    def screen(self, image: ImageSource, *, source: str | None = None) -> Screening:
        """Judges one image, and gives the verdict with the pixels that it is of: the only ones that may go on.

        Args:
            image: As for `check`; it is decoded once.
            source: As for `check`.
        """
        start, rules = perf_counter(), self._rules
        prepared, raster = self._checker.decoded(image, rules.limits)
        verdict = self._checker.judge(rules.panel(source), [prepared], BATCH)[0]
        return Screening(verdict=with_total(verdict, (perf_counter() - start) * 1e3), raster=raster)

    async def ascreen(self, image: ImageSource, *, source: str | None = None) -> Screening:
        """`screen` in a thread, so that an event loop goes on."""
        return await asyncio.to_thread(self.screen, image, source=source)

    def check_many(
        self, images: Iterable[ImageSource], batch_size: int = BATCH, *, source: str | None = None
    ) -> list[Verdict]:
        """Judges many images, each as `check` would, while the next ones are decoded.

        After a reload, the images that are decoded from then on are judged under the new policy.

        Args:
            images: As for `check`; a bad one does not harm the others.
            batch_size: Views per run of the graph.
            source: Where all of them come from.

        Raises:
            ValueError: `batch_size` is below 1.
            TypeError: A single path or bytes was passed.
        """
        return judge_many(self._checker, lambda: self._rules, images, batch_size, source)

    def check_frame(self, array: NDArray[np.uint8], *, source: str | None = None) -> Verdict:
        """Judges trusted pixels, as from a camera, without decoding them.

        Args:
            array: uint8 RGB [H, W, 3]; leave it alone until the verdict is there.
            source: As for `check`.
        """
        return self._frame(array, source)

    def check_video(
        self,
        video: VideoSource,
        *,
        every_seconds: float = 1.0,
        max_frames: int = 64,
        limits: VideoLimits | None = None,
        source: str | None = None,
    ) -> Verdict:
        """Judges a video by its first frame, the first of every interval, and its last; needs the extra `video`.

        Args:
            video: MP4, MOV, Matroska or WebM: a path, encoded bytes or a binary file.
            every_seconds: Length of an interval.
            max_frames: A video that takes more frames is refused, and never judged in part.
            limits: What the video may cost; sides and pixels are the image limits'.
            source: As for `check`.

        Returns:
            The worst frame's verdict; its reason names the second. A bad video gives one with `error` set.

        Raises:
            MissingExtra, OptionError: PyAV is not installed, the platform cannot isolate it, or an argument is wrong.
        """
        start, rules = perf_counter(), self._rules
        sampling = Sampling(every_seconds=every_seconds, max_frames=max_frames)
        verdict = judge_video(self._checker, rules.panel(source), video, sampling, (limits, rules.limits))
        return with_total(verdict, (perf_counter() - start) * 1e3)

    def watch(self, source: str | None = None) -> Watch:
        """What judges the frames of one camera, in their order, under the policy's [hysteresis].

        Args:
            source: The camera, as for `check`.

        Raises:
            PolicyError: The bundles' policies have different [hysteresis].
        """
        _ = self._rules.hysteresis
        return Watch(lambda array, voting: self._frame(array, source, voting))

    def check_features(
        self, features: VisionFeatures, mask: NDArray[np.bool_] | None = None, *, source: str | None = None
    ) -> Verdict:
        """Judges the features of an image that the caller's own vision tower computed.

        Args:
            features: Of the tower and tap that every loaded bundle was made for.
            mask: bool [T], True where a token counts; None if all do.
            source: As for `check`.

        Returns:
            The verdict; features that do not fit give one with `error` set.
        """
        start = perf_counter()
        verdict = self._checker.features(self._rules.panel(source), features, mask)
        return with_total(verdict, (perf_counter() - start) * 1e3)

    def guard(
        self,
        engine: Engine,
        *,
        on_block: OnVerdict | None = None,
        on_error: OnVerdict | None = None,
        observers: Sequence[Observer] = (),
        max_images: int = MAX_IMAGES,
    ) -> Guard:
        """This gate in front of an engine, which is asked nothing before every image was judged; see `Guard`."""
        return Guard(self, engine, on_block=on_block, on_error=on_error, observers=observers, max_images=max_images)

    def reload_policy(self, policy: PolicySource) -> None:
        """Puts another policy in force for all bundles, between two checks.

        A check that has begun ends under the policy that it began with; every verdict names the policy applied.

        Args:
            policy: A policy, or the path of a TOML file.

        Raises:
            PolicyError: It is not valid, or does not fit the bundles. The old one stays in force.
        """
        chosen, gates = policy_from(policy), self._checker.gates
        self._rules = self._rulebook(gates, [chosen] * len(gates))

    def close(self) -> None:
        """Frees sessions and the decoding process; later checks give failed verdicts."""
        self._checker.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _rulebook(self, gates: Sequence[Gate], policies: Sequence[Policy]) -> Rulebook:
        if not gates:
            raise BundleError("no bundle was given; pass at least one gate")
        manifests, provider = [gate.manifest for gate in gates], gates[0].provider
        return Rulebook(manifests, policies, limits=self._limits, provider=provider, today=self._today)

    def _frame(self, array: NDArray[np.uint8], source: str | None, voting: Voting | None = None) -> Verdict:
        start, rules = perf_counter(), self._rules
        adjust = None if voting is None else voting(rules.hysteresis)
        verdict = self._checker.judge(rules.panel(source), [self._checker.pixels(array)], BATCH, adjust)[0]
        return with_total(verdict, (perf_counter() - start) * 1e3)
