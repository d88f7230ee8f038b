"""What the child process makes of an INT8 file that was made elsewhere, and the words it shares with builds."""

from mecha.errors import MechaError, QuantizationError
from mecha.service.job import BuildJob, Candidate
from mecha.store.manifest import GateRecord, Int8Record, TriedRecord
from mecha.store.published import INT8_FILE

ADOPTED = "adopted"


def require_int8(candidate: Candidate) -> None:
    """Refuse a whole model that is not INT8: the gate would find it right, and measure FP32 against FP32.

    Raises:
        QuantizationError: it holds no quantized node.
    """
    from mecha.graph.inspect import inspect_model

    try:
        quantized = inspect_model(candidate.file).quantized
    except MechaError:
        return  # the gate says what is wrong with it
    if not quantized:
        raise QuantizationError(
            f"{candidate.name}: holds no quantized node; expected an INT8 file",
            hint=f"`mecha models add {candidate.name} --name NAME` adds a model that is not INT8.",
        )


def adopted(job: BuildJob, candidate: Candidate, gate: GateRecord) -> Int8Record:
    """Return the record of a file made elsewhere; where it is right, it is in the place of a build from then on."""
    # The child works on a copy, whose name says nothing to anybody.
    gate = gate.model_copy(update={"reason": gate.reason.replace(str(candidate.file), candidate.name)})
    attempt = tried(ADOPTED, gate)
    record = Int8Record(
        state="rejected",
        key=job.key,
        requested_method=ADOPTED,
        method=ADOPTED,
        message=f"{candidate.name} is {gate.verdict}: {gate.reason}",
        gate=gate,
        tried=(attempt,),
    )
    if gate.verdict not in ("faster", "slower"):
        return record
    candidate.file.replace(job.out_dir / INT8_FILE)
    message = f"adopted {candidate.name}: {worth_words(attempt)}"
    return record.model_copy(update={"state": "built", "message": message})


def tried(method: str, gate: GateRecord) -> TriedRecord:
    """Return what the manifest says of one attempt."""
    return TriedRecord(
        method=method,
        verdict=gate.verdict,
        reason=gate.reason,
        speedup=gate.speedup,
        agreement=gate.agreement.agreement if gate.agreement else None,
    )


def worth_words(won: TriedRecord) -> str:
    """Say what an INT8 file is worth here: `2.1x FP32 on this CPU, agreement 0.95`."""
    worth = f"{won.speedup:.1f}x" if won.speedup else "speed unknown"
    agreement = f", agreement {won.agreement:.2f}" if won.agreement is not None else ""
    slow = "" if won.verdict == "faster" else '; slower than FP32 here, so "auto" runs FP32'
    return f"{worth} FP32 on this CPU{agreement}{slow}"
