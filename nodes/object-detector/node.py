"""The object detector: frames in, detections out, FP32 or INT8, switched while it runs."""

from dataclasses import replace
from typing import ClassVar, Literal

from mecha.runtime.degrade import Change, Degrading
from mecha.runtime.ladder import DEFAULT_LADDER, Relief, RungText
from mecha.runtime.loader import ModelLoader
from mecha.runtime.messages import CameraStateMessage, ControlMessage, DetectionsMessage, FrameMessage
from mecha.runtime.node import Field, Node, NodeConfig
from mecha.runtime.self_calibration import SelfCalibration
from mecha.runtime.slot import DetectorSlot
from mecha.runtime.variants import Wanted

DETECTIONS = "/vision/object/detections"
SAID = ("use_int8", "enabled", "self_calibrate", "degrade")
"""Keys of the config that a ControlMessage may say otherwise."""


class DetectorConfig(NodeConfig):
    """config.json.

    Attributes:
        model: name of a pulled model.
        model_path: its FP32 file, from the project's root; wins over `model`. INT8 is what lies beside it.
        use_int8: true runs INT8, false FP32, "auto" what was measured to be faster on this device.
        input_size: pixels, for models that take more than one size; null is the model's own.
        score_threshold: weakest score that is reported; iou_threshold: boxes of one class that overlap more are one.
        threads: of the session; null leaves one core to the rest.
        memory_limit_mb: above it only the precision that runs stays loaded; null is no limit.
        latency_budget_ms: what is switched to and takes longer for a frame gives way to what ran before, where that was
            quicker; null is any time.
        enabled: false detects nothing and takes no time.
        self_calibrate: INT8 that was built on scenes is built again from frames seen here, and swapped in where it is
            better; false keeps no frame.
        degrade: do less, rung by rung of `ladder`, while the device is too hot or drops frames for want of time.
        ladder: "skip N": frames left out after each one; "fastest": the faster precision; "input N": pixels, where the
            model takes more than one size. What would change nothing is passed over.
    """

    model: str = Field("arena-n", min_length=1)
    model_path: str | None = Field(None, min_length=1)
    use_int8: bool | Literal["auto"] = "auto"
    input_size: int | None = Field(None, ge=32, le=4096)
    score_threshold: float = Field(0.25, ge=0, le=1)
    iou_threshold: float = Field(0.45, ge=0, le=1)
    max_detections: int = Field(300, ge=1)
    threads: int | None = Field(None, ge=1, le=256)
    memory_limit_mb: int | None = Field(1024, ge=64)
    latency_budget_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    enabled: bool = True
    self_calibrate: bool = True
    degrade: bool = False
    ladder: tuple[RungText, ...] = DEFAULT_LADDER


class ObjectDetector(Node[DetectorConfig]):
    """Detects on the newest frame."""

    config_model = DetectorConfig
    inputs: ClassVar = {
        "/camera/rgb": FrameMessage,
        "/vision/object/control": ControlMessage,
        "/camera/state": CameraStateMessage,
    }
    outputs: ClassVar = {DETECTIONS: DetectionsMessage}

    def setup(self) -> None:
        """Load the model; without one the node does not start."""
        self.said = ControlMessage()
        self.stale = False
        self.last: DetectionsMessage | None = None
        self.loader = ModelLoader(self.root)
        self.degrading = Degrading(helps=self.helps, on_change=self.relieve, log=self.log)
        self.slot = DetectorSlot(self.loader, log=self.log, on_swap=self.report_swap)
        self.slot.start(self.wanted())
        self.calibration = SelfCalibration(self.root, self.log.name, self.log)
        self.follow()

    def configure(self, previous: DetectorConfig) -> None:
        """Load what config.json says now, beside the frames."""
        # What was said over the topic holds until config.json says something else about the same key.
        changed = {key for key in SAID if getattr(previous, key) != getattr(self.config, key)}
        self.said = self.said.model_copy(update=dict.fromkeys(changed))
        self.slot.want(self.wanted())
        self.follow()

    def step(self, message: FrameMessage | ControlMessage | CameraStateMessage) -> None:
        """Detect in a frame, or do as the message says."""
        if isinstance(message, CameraStateMessage):
            self.follow_camera(message)
        elif isinstance(message, ControlMessage):
            self.said = self.said.model_copy(update=message.model_dump(exclude_none=True))
            self.slot.want(self.wanted())
            self.follow()
        elif not self.degrading.takes(message.seq):
            self.leave_out()
        elif self.config.enabled if self.said.enabled is None else self.said.enabled:
            result = self.slot.run(message.frame_bgr)
            self.degrading.worked(result.times.total_ms)
            self.last = DetectionsMessage.of(message, result, self.slot.model, stale=self.stale)
            self.report_inference(result.times.total_ms, result.precision, message.seq, self.last.ms)
            self.publish(DETECTIONS, self.last)
            self.calibration.offer(message.frame_bgr, result, self.slot.model)

    def close(self) -> None:
        """Stop loading and building."""
        self.degrading.close()
        self.calibration.close()
        self.slot.close()

    def follow_camera(self, state: CameraStateMessage) -> None:
        """Say once that the last result gets old, for those who act on results and do not look at the clock."""
        if state.stale and not self.stale and self.last is not None:
            self.publish(DETECTIONS, replace(self.last, stale=True))
        self.stale = state.stale
        self.mark_stale(state.stale)

    def follow(self) -> None:
        """Build INT8 from what is seen here, and do less when that is needed, where this is asked for."""
        calibrates, degrades = self.said.self_calibrate, self.said.degrade
        self.calibration.switch(on=self.config.self_calibrate if calibrates is None else calibrates)
        degrades = self.config.degrade if degrades is None else degrades
        self.degrading.switch(self.config.ladder if degrades else None)

    def helps(self, was: Relief, now: Relief) -> bool:
        """Tell whether a step of the ladder runs something else."""
        return self.loader.differs(was.applied(self.asked()), now.applied(self.asked()))

    def relieve(self, change: Change) -> None:
        """Run what is left after a step of the ladder."""
        self.report_degrade(change.was, change.now, change.reason, down=change.down)
        self.slot.want(self.wanted())

    def wanted(self) -> Wanted:
        """Return what is to run: what is asked for, or less of it."""
        return self.degrading.relief.applied(self.asked())

    def asked(self) -> Wanted:
        """Return what is asked for: the config, and over it what was said."""
        config = self.config
        return Wanted(
            model=config.model_path or config.model,
            use_int8=config.use_int8 if self.said.use_int8 is None else self.said.use_int8,
            input_size=config.input_size,
            threads=config.threads,
            score_threshold=config.score_threshold,
            iou_threshold=config.iou_threshold,
            max_detections=config.max_detections,
            memory_limit_mb=config.memory_limit_mb,
            latency_budget_ms=config.latency_budget_ms,
        )
