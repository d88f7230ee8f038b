"""Making sure that two ends of a bus hear each other, before a test sends what it is about."""

from mecha.runtime.bus import Bus, Sample
from tests.runtime.waiting import wait_for


def connected(sender: Bus, receiver: Bus, topic: str) -> list[Sample]:
    """Subscribe, and return the list that fills; messages are sent until the first one arrives."""
    received: list[Sample] = []
    receiver.subscribe(topic, received.append)
    reach(sender, topic, received)
    return received


def reach(sender: Bus, topic: str, received: list[Sample]) -> None:
    """Send messages until they arrive, and empty the list again."""

    def arrived() -> bool:
        sender.publish(topic, b"are you there?")
        return bool(received)

    wait_for(arrived)
    # The last of several questions may still be on its way.
    sender.publish(topic, b"that is all")
    wait_for(lambda: received[-1].payload == b"that is all")
    received.clear()
