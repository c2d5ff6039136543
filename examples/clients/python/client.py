"""What a client of jet-session should have, in some 150 lines: a connection that says who it is, calls that
are tried again where that helps and never do a thing twice, refusals as data, and one heartbeat.

docs/clients.md explains the rules that it follows.
"""

import random
import threading
import time
import uuid

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from jet.session.v1 import thread_pb2, thread_pb2_grpc

DOMAIN = "jet.session.v1"
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


def connect(address, ca=None, certificate=None, key=None, token=None):
    """A channel: in plaintext, or by TLS if `ca` is given. All but the address are files."""
    if not ca:
        if certificate or key or token:
            raise ValueError("without TLS, who is there could be anybody, and would be shown the credentials")
        return grpc.insecure_channel(address)

    def read(name):
        with open(name, "rb") as file:
            return file.read()

    credentials = grpc.ssl_channel_credentials(
        root_certificates=read(ca),
        private_key=read(key) if key else None,
        certificate_chain=read(certificate) if certificate else None,
    )
    if token:
        # The file is read for each call, so that a new token counts at once.
        def bearer(_context, callback):
            try:
                callback((("authorization", f"Bearer {read(token).decode().strip()}"),), None)
            except OSError as error:
                callback((), error)

        bearer = grpc.metadata_call_credentials(bearer)
        credentials = grpc.composite_channel_credentials(credentials, bearer)
    return grpc.secure_channel(address, credentials)


def request_id():
    """One for each thing to do, kept over all tries of it."""
    return str(uuid.uuid4())


def seconds(number):
    """The number of seconds as the API writes durations."""
    duration = Duration()
    duration.FromMilliseconds(round(number * 1000))
    return duration


class Refusal:
    """What a status says to programs."""

    def __init__(self, error):
        self.code = error.code()
        self.reason, self.facts, self.retry_after = None, {}, None
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
                if info.domain == DOMAIN:
                    self.reason, self.facts = info.reason, dict(info.metadata)
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo()
                detail.Unpack(retry)
                self.retry_after = retry.retry_delay.ToMilliseconds() / 1000

    @property
    def ours(self):
        """Whether the server said it, and not a proxy or this side of the connection."""
        return self.reason is not None

    @property
    def not_set(self):
        """Whether it proves that a call that waited has set nothing."""
        return self.code == grpc.StatusCode.DEADLINE_EXCEEDED and self.reason == "NOT_SET"


def pause_before_retry(error, pause):
    """The seconds after which the same request is worth another try, or None if it is not."""
    pushback = dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
    if pushback is not None:
        # A negative one says "never".
        return int(pushback) / 1000 if pushback.isdigit() else None
    refusal = Refusal(error)
    may_pass = refusal.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    if may_pass and refusal.retry_after is not None:
        pause = refusal.retry_after
    elif refusal.code != grpc.StatusCode.UNAVAILABLE or refusal.ours:
        return None
    # Not all at the same moment, and none before its time.
    return pause * random.uniform(1.0, 1.2)


def call(method, request, deadline=10.0):
    """Calls until there is an answer, another try would not help, or the deadline has passed.

    The request goes out unchanged each time, so its request_id makes it take effect once.
    """
    ends, pause = time.monotonic() + deadline, FIRST_PAUSE
    while True:
        try:
            return method(request, timeout=max(0.0, ends - time.monotonic()))
        except grpc.RpcError as error:
            wait = pause_before_retry(error, pause)
            if wait is None or time.monotonic() + wait >= ends:
                raise
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)


class Heartbeat:
    """Renews the leases of all threads of this process together, and says what is lost."""

    def __init__(self, channel, ttl):
        self.threads, self.ttl = thread_pb2_grpc.ThreadServiceStub(channel), ttl
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.held = {}  # (session, token) → (thread id, the event that says that it is lost)
        self.renewed = time.monotonic()
        self.runner = threading.Thread(target=self._run, daemon=True)
        self.runner.start()

    def watch(self, session, thread_id, token):
        """An event that is set when the session is lost, by what is known here."""
        lost = threading.Event()
        with self.lock:
            self.held[session, token] = (thread_id, lost)
        # A Set that waited was sent long ago, which says nothing about how long its lease still lasts.
        self.beat()
        return lost

    def forget(self, session, token):
        """The session was let go of."""
        with self.lock:
            self.held.pop((session, token), None)

    def beat(self):
        """One heartbeat. With more than 400 threads it would have to be several calls."""
        with self.lock:
            held = dict(self.held)
        thread_ids = sorted({thread_id for thread_id, _ in held.values()})
        # The server counts from when it comes, which is later than when it is sent.
        sent = time.monotonic()
        kept = []
        if thread_ids:
            request = thread_pb2.KeepThreadsAliveRequest(thread_ids=thread_ids, lease_ttl=seconds(self.ttl))
            try:
                kept = self.threads.KeepThreadsAlive(request, timeout=self._soon()).threads
            except grpc.RpcError:
                # The next one may come through, while there is time.
                if time.monotonic() >= self.renewed + self.ttl:
                    self._lose(held)
                return
        self.renewed = max(self.renewed, sent)
        # Losses are told again for minutes: the token says which of them are ours.
        lost = {(loss.session, loss.fencing_token) for thread in kept for loss in thread.lost}
        self._lose({key: held[key] for key in lost & held.keys()})

    def _lose(self, held):
        for key, (_, lost) in held.items():
            lost.set()
            self.forget(*key)

    def _soon(self):
        """A quarter of the time to live, or what is left of it."""
        return max(0.01, min(self.ttl / 4, self.renewed + self.ttl - time.monotonic()))

    def _run(self):
        while not self.stopped.wait(self._soon()):
            self.beat()

    def stop(self):
        """Ends the heartbeat; the leases go on until they end by themselves."""
        self.stopped.set()
        self.runner.join()
