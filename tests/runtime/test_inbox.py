"""What waits for a node: ordered messages, and of frames the newest."""

import threading

from mecha.runtime.bus import Sample
from mecha.runtime.bus.inbox import Inbox
from tests.runtime.waiting import wait_for


def test_ordered_messages_come_before_frames_and_none_is_lost() -> None:
    inbox = Inbox(newest=["/left", "/right"])
    for index in range(3):
        inbox.put(Sample("/left", b"%d" % index))
        inbox.put(Sample("/control", b"%d" % index))
        inbox.put(Sample("/right", b"%d" % index))

    taken = [inbox.take(0.0) for _ in range(6)]

    assert [(sample.topic, sample.payload) for sample in taken if sample] == [
        ("/control", b"0"),
        ("/control", b"1"),
        ("/control", b"2"),
        ("/left", b"2"),
        ("/right", b"2"),
    ]
    assert (inbox.dropped("/left"), inbox.dropped("/right"), inbox.dropped("/control")) == (2, 2, 0)


def test_an_ordered_queue_that_nobody_empties_drops_its_oldest_and_counts_them() -> None:
    inbox = Inbox(capacity=3)

    for index in range(5):
        inbox.put(Sample("/control", b"%d" % index))

    assert inbox.dropped("/control") == 2
    assert [getattr(inbox.take(0.0), "payload", None) for _ in range(4)] == [b"2", b"3", b"4", None]


def test_a_waiting_node_can_be_woken() -> None:
    inbox = Inbox()
    taken: list[Sample | None] = []
    thread = threading.Thread(target=lambda: taken.append(inbox.take(60.0)))
    thread.start()

    def woken() -> bool:
        inbox.wake()
        return not thread.is_alive()

    wait_for(woken)
    assert taken == [None]
