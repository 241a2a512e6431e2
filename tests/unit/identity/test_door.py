"""
The signer's own sockets, without a process around them: who is served, in which turn, and what the front is told.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

import contextlib
import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cftpki_ext.core.errors import InputError, KeyUnavailableError
from cftpki_ext.identity.serving import door as module
from cftpki_ext.identity.serving.door import MAX_CONNECTIONS, STRANGERS_TOLD_S, Door
from cftpki_ext.identity.serving.doors import SUPERSEDED_S, DoorsHeard, DoorUse, IdentityDoors
from cftpki_ext.processes.channel import ChildChannel, pair
from cftpki_ext.processes.frames import Frame as ProcessFrame
from cftpki_ext.processes.frames import FrameReader, Kind
from cftpki_ext.processes.frames import Message as Note
from cftpki_ext.processes.frames import encode as encode_frame
from cftpki_ext.protocol.codec import HEADER, Frame, Message, Result, Tag, decode, encode
from cftpki_ext.protocol.door import MAX_REQUEST_BYTES, leaf_reference

LEAF = b"a leaf certificate"
REQUEST = {Tag.SESSION: 7, Tag.CRYPT_SCHEME: 0x0401, Tag.CRYPT_INPUT: b"digest"}


def request(**changed):
    fields = {**REQUEST, **{Tag[name]: value for name, value in changed.items()}}
    return encode(Frame(Message.CRYPT_DATA, response=False, sequence=3, fields=fields))


class Sockets:
    """
    A `DoorSockets` in a folder of the test's.
    """

    def __init__(self, folder):
        self.folder = folder
        self.allowed = True
        self.speakers = frozenset({1, 2, 3})

    def path(self, reference):
        return self.folder / f"{reference:016x}"

    def allows(self, _identity):
        return self.allowed

    def users(self):
        return self.speakers

    def open(self, reference):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path(reference)))
        listener.listen(MAX_CONNECTIONS)
        return listener

    def close(self, reference, listener):
        listener.close()
        self.path(reference).unlink()


class World:
    """
    A door with one key, served in a thread while `serving`.
    """

    def __init__(self, folder):
        self.sockets = Sockets(folder)
        self.heard = []
        self.doors = IdentityDoors("mft", self.sockets, self.heard.append, kept=2)
        self.used = []
        self.error = None
        self.uid = 1
        self.first = threading.Event()  # a key is in use
        self.go_on = threading.Event()
        self.go_on.set()
        self.door = Door(self.use, peer=lambda _: self.uid)
        self.front, self.end_of_child = pair()
        self.channel = ChildChannel(self.end_of_child)
        self.reader = FrameReader()
        self.doors.loaded(LEAF, key="key", generation=4)
        self.show()

    def close(self):
        self.door.close()
        self.doors.close()
        self.front.close()
        self.end_of_child.close()

    def show(self):
        call = self.doors.call()
        self.door.replace(call.value, call.descriptors)

    def use(self, name, scheme, data):
        self.used.append((name, scheme, data))
        self.first.set()
        self.go_on.wait(20)
        if self.error is not None:
            raise self.error
        return Tag.CRYPT_OUTPUT, b"signature of " + data

    def host(self):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(20)
        try:
            client.connect(str(self.sockets.path(leaf_reference(LEAF))))
        except OSError:
            client.close()
            raise
        return client

    @contextlib.contextmanager
    def serving(self):
        """
        Until the front says something.
        """
        serving = threading.Thread(target=self.door.attend, args=(self.channel,))
        serving.start()
        try:
            yield
        finally:
            self.go_on.set()
            self.end()
            serving.join(20)
            assert not serving.is_alive()
            assert Kind.CALL is self.channel.receive().kind

    def end(self):
        self.front.sendall(b"".join(encode_frame(ProcessFrame(Kind.CALL, 1, Note()))))

    def note(self):
        """
        What the front is told next.
        """
        self.front.settimeout(20)
        while (frame := self.reader.next()) is None:
            self.reader.feed(self.front.recv(65536))
        assert Kind.NOTE is frame.kind
        self.doors.noted(frame.message)
        return frame.message.value


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


def answer(client):
    """
    The one answer; the connection is closed after it.
    """
    raw = b""
    while data := client.recv(65536):
        raw += data
    if not raw:
        return None
    frame, size = decode(raw)
    assert len(raw) == size
    return frame


def test_host_gets_its_signature_and_the_front_is_told(world):
    with world.serving(), world.host() as client:
        client.sendall(request())
        frame = answer(client)
        assert {
            "used": [[7, 0x0401, 4, 1, "signed"]],
            "total": 1,
            "failed": 0,
            "strangers": {},
        } == world.note()
    assert (Message.CRYPT_DATA, True, 3) == (frame.message, frame.response, frame.sequence)
    assert {Tag.RESULT: Result.DONE, Tag.CRYPT_OUTPUT: b"signature of digest"} == frame.fields
    assert [("key", 0x0401, b"digest")] == world.used
    use = DoorUse(identity="mft", generation=4, session=7, scheme=0x0401, user=1, use="signed")
    assert [DoorsHeard(identity="mft", uses=(use,))] == world.heard


def test_request_may_come_in_pieces(world):
    with world.serving(), world.host() as client:
        for octet in request():
            client.sendall(bytes([octet]))
        assert Result.DONE == answer(client).number(Tag.RESULT)


@pytest.mark.parametrize(
    ("error", "detail", "failed"),
    [
        (InputError("no hash"), "no hash", 0),
        (KeyUnavailableError("the token is out"), "the token is out", 1),
        (ValueError("secret"), "internal error: ValueError", 1),
    ],
)
def test_what_cannot_be_signed_is_failed_and_the_next_is_served(world, error, detail, failed):
    world.error = error
    with world.serving():
        with world.host() as client:
            client.sendall(request())
            assert {Tag.RESULT: Result.FAILED, Tag.ALERT: 80, Tag.DETAIL: detail} == answer(client).fields
        world.error = None
        with world.host() as client:
            client.sendall(request())
            assert Result.DONE == answer(client).number(Tag.RESULT)
        assert (1, failed) == (world.note()["total"], world.doors.failed)


def test_memory_that_is_short_ends_the_process(world):
    world.error = MemoryError()
    with world.host() as client:
        client.sendall(request())
        with pytest.raises(MemoryError):
            world.door.attend(world.channel)


HOSTILE = {
    "no frame": b"GET / HTTP/1.1\r\n\r\n",
    "another version": request()[:2] + b"\x09" + request()[3:],
    "another message": encode(Frame(Message.STATUS, response=False, sequence=3, fields={})),
    "a response": request()[:3] + bytes([Message.CRYPT_DATA | 0x80]) + request()[4:],
    "too long a payload": HEADER.pack(b"CP", 1, Message.CRYPT_DATA, 3, MAX_REQUEST_BYTES),
    "two requests": request() * 2,
    "no session": HEADER.pack(b"CP", 1, Message.CRYPT_DATA, 3, 0),
    "session 0": request().replace((7).to_bytes(8, "big"), bytes(8)),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_what_is_no_request_is_answered_failed_and_signs_nothing(world, name):
    with world.serving():
        with world.host() as client:
            client.sendall(HOSTILE[name])
            frame = answer(client)
            assert (Message.UNREADABLE, Result.FAILED) == (frame.message, frame.number(Tag.RESULT))
        assert [] == world.used
        with world.host() as client:
            client.sendall(request())
            assert Result.DONE == answer(client).number(Tag.RESULT)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    octets=st.binary(max_size=80)
    | st.builds(lambda end, tail: request()[:end] + tail, st.integers(0, 60), st.binary(max_size=20))
)
def test_whatever_comes_nothing_is_signed_but_requests(world, octets):
    with world.serving(), world.host() as client:
        with contextlib.suppress(OSError):  # hung up on already
            client.sendall(octets)
            client.shutdown(socket.SHUT_WR)
        frame = answer(client)
        if frame is not None and frame.number(Tag.RESULT) == Result.DONE:
            assert Message.CRYPT_DATA is decode(octets)[0].message


def test_other_users_are_not_spoken_to_and_told_of(world):
    world.uid = 99
    with world.serving(), world.host() as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request())
            assert None is answer(client)
        assert ({"99": 1}, 0) == (world.note()["strangers"], world.doors.done)
    assert [] == world.used
    assert {99: 1} == world.heard[0].strangers


def test_users_are_those_of_the_configuration_in_force(world):
    world.sockets.speakers = frozenset({2})
    world.show()
    with world.serving(), world.host() as client, contextlib.suppress(ConnectionError):
        client.sendall(request())
        assert None is answer(client)
    assert [] == world.used


def test_who_connects_and_does_not_ask_is_hung_up_on(world, monkeypatch):
    monkeypatch.setattr(module, "REQUEST_S", 0.01)
    with world.serving():
        with world.host() as silent:
            assert None is answer(silent)
        monkeypatch.undo()
        with world.host() as client:
            client.sendall(request())
            assert Result.DONE == answer(client).number(Tag.RESULT)


def test_turns_go_by_user_whoever_came_first(world):
    world.go_on.clear()
    with contextlib.ExitStack() as stack, world.serving():
        crowd = [stack.enter_context(world.host()) for _ in range(20)]
        for client in crowd:
            client.sendall(request(CRYPT_INPUT=b"crowd"))
        assert world.first.wait(20)  # the first is being signed for, the others have come
        world.uid = 1
        world.door._peer = lambda _: 2
        other = stack.enter_context(world.host())
        other.sendall(request(CRYPT_INPUT=b"other"))
        world.go_on.set()
        assert Result.DONE == answer(other).number(Tag.RESULT)
        for client in crowd:
            assert Result.DONE == answer(client).number(Tag.RESULT)
    # The one that was under way, at most one that was its turn, and then the other user's.
    assert world.used.index(("key", 0x0401, b"other")) <= 2


def test_who_takes_all_connections_loses_them_to_others(world):
    with contextlib.ExitStack() as stack:
        world.go_on.clear()
        stack.enter_context(world.serving())
        with world.host() as first:
            first.sendall(request())
            assert world.first.wait(20)  # nobody is accepted meanwhile
            world.go_on.set()
            assert Result.DONE == answer(first).number(Tag.RESULT)
        crowd = [stack.enter_context(world.host()) for _ in range(MAX_CONNECTIONS)]
        late = stack.enter_context(world.host())
        assert None is answer(late)  # of the same user: the latest goes
        world.door._peer = lambda _: 2
        with world.host() as other:
            other.sendall(request())
            assert Result.DONE == answer(other).number(Tag.RESULT)
        assert None is answer(crowd[-1])
        crowd[0].sendall(request())
        assert Result.DONE == answer(crowd[0]).number(Tag.RESULT)


def test_who_has_left_is_not_signed_for(world, monkeypatch):
    monkeypatch.setattr(module, "_MAY_HAVE_LEFT_S", 0.0)
    world.go_on.clear()
    with world.serving():
        with world.host() as first:
            first.sendall(request(CRYPT_INPUT=b"first"))
            assert world.first.wait(20)
            with world.host() as gone:
                gone.sendall(request(CRYPT_INPUT=b"gone"))
            world.go_on.set()
            assert Result.DONE == answer(first).number(Tag.RESULT)
        with world.host() as last:
            last.sendall(request(CRYPT_INPUT=b"last"))
            assert Result.DONE == answer(last).number(Tag.RESULT)
    assert [b"first", b"last"] == [data for _, _, data in world.used]


def test_each_generation_signs_with_its_own_key_until_it_is_forgotten(world):
    for number in (5, 6):
        world.doors.loaded(b"leaf %d" % number, key=f"key {number}", generation=number)
    world.show()
    names = [f"{leaf_reference(leaf):016x}" for leaf in (b"leaf 5", b"leaf 6")]
    assert names == world.doors.status()
    assert sorted(names) == sorted(path.name for path in world.sockets.folder.iterdir())
    with world.serving():
        for number in (5, 6):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(str(world.sockets.path(leaf_reference(b"leaf %d" % number))))
                client.sendall(request())
                assert Result.DONE == answer(client).number(Tag.RESULT)
    assert ["key 5", "key 6"] == [name for name, _, _ in world.used]


def test_generation_that_was_superseded_long_ago_signs_no_more(world):
    now = [100.0]
    world.doors._clock = lambda: now[0]
    world.doors.loaded(b"leaf 5", key="key 5", generation=5)
    world.show()
    both = world.doors.status()
    now[0] += SUPERSEDED_S - 1
    assert (False, both) == (world.doors.drop_superseded(), world.doors.status())
    now[0] += 1
    assert world.doors.drop_superseded()
    assert [f"{leaf_reference(b'leaf 5'):016x}"] == world.doors.status()
    assert not world.doors.drop_superseded()
    with pytest.raises(FileNotFoundError):
        world.host()
    # One that is in force again is as good as new.
    world.doors.loaded(LEAF, key="key", generation=6)
    world.doors.loaded(b"leaf 5", key="key 5", generation=7)
    world.doors.loaded(LEAF, key="key", generation=8)
    now[0] += SUPERSEDED_S
    assert world.doors.drop_superseded()
    world.show()
    assert [f"{leaf_reference(LEAF):016x}"] == world.doors.status()


def test_strangers_are_told_of_now_and_then(world):
    now = [100.0]
    world.door._clock = lambda: now[0]
    world.uid = 99
    for told in ({99: 1}, {}, {}, {99: 3}):
        if told and now[0] > 100:
            now[0] += STRANGERS_TOLD_S
        with world.host():
            world.door._hear()
        now[0] += 0.1
        world.door._note_at_s = now[0]
        world.door._tell(world.channel)
        world.note()
        assert told == world.heard[-1].strangers


def test_identity_that_no_rule_names_has_no_socket(world):
    world.sockets.allowed = False
    world.show()
    assert ([], []) == (world.doors.status(), list(world.sockets.folder.iterdir()))
    with pytest.raises(FileNotFoundError):
        world.host()
    world.sockets.allowed = True
    world.show()
    assert 1 == len(world.doors.status())


def test_what_a_killed_signer_did_not_tell_is_counted(world):
    with world.serving(), world.host() as client:
        client.sendall(request())
        answer(client)
    world.doors.begun_anew()
    assert 1 == world.doors.done
    assert [1] == [heard.untold for heard in world.heard]
    # The next process goes on counting.
    door = Door(world.use, peer=lambda _: 1)
    call = world.doors.call()
    door.replace(call.value, call.descriptors)
    assert 1 == door._total
    door.close()


@pytest.mark.parametrize(
    "note",
    [
        {},
        {"used": 1, "total": 1, "strangers": {}},
        {"used": [], "total": True, "strangers": {}},
        {"used": [], "total": 1, "strangers": []},
        {"used": [], "total": -1, "strangers": {}},
        {"used": [], "total": 1 << 64, "strangers": {}},
    ],
)
def test_note_that_cannot_be_read_is_left_out(world, note):
    world.doors.noted(Note(note))
    assert [] == world.heard


def test_row_that_cannot_be_read_counts_as_not_told(world):
    world.doors.noted(
        Note({"used": [[1, 2, 3, 4, "stolen"], [1, 2, 3, 4, "signed"]], "total": 2, "strangers": {"x": 1}})
    )
    assert [(1, 1, {})] == [(len(heard.uses), heard.untold, heard.strangers) for heard in world.heard]


@pytest.mark.parametrize("number", [-1, 1 << 64, 1.5, True, None, "1"])
@pytest.mark.parametrize("place", range(4))
def test_row_with_a_number_that_no_wire_carries_counts_as_not_told(world, number, place):
    row = [1, 2, 3, 4, "signed"]
    row[place] = number
    world.doors.noted(Note({"used": [row], "total": 1, "strangers": {}}))
    assert [((), 1)] == [(heard.uses, heard.untold) for heard in world.heard]


def test_strangers_that_cannot_be_are_left_out_and_the_others_are_few(world):
    strange = {"9" * 5000: 1, "7": "x", "8": None, "9": -1, "٣": 1}
    many = {str(uid): 1 for uid in range(1000)}
    for strangers in ({**strange, "10": 2}, many):
        world.doors.noted(Note({"used": [], "total": 0, "strangers": strangers}))
    assert [{10: 2}, 64] == [world.heard[0].strangers, len(world.heard[1].strangers)]
