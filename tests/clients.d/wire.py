"""The wire between a client and a server: a proxy that sees every call, and spoils those that it is told to."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2


@dataclass
class Seen:
    """A call that came over the wire."""

    method: str
    request: bytes
    at: float
    metadata: dict[str, str]
    identity: tuple[str, ...] = ()
    answer: bytes | None = None


class Wire:
    """A proxy before a server, which sees all calls and spoils those that `spoil` picks.

    `spoil(call, number)` gets a call before it is forwarded, and how many of its method there were. It
    answers what to do: None to forward it, "lose" to forward it and lose the answer, a refusal of the class
    below, or the bytes of another answer.
    """

    def __init__(self, server, spoil=lambda call, number: None, credentials=None):
        self.spoil, self.seen, self.lock = spoil, [], threading.Lock()
        self.channel = grpc.insecure_channel(server)
        self.pool = ThreadPoolExecutor(16)
        self.proxy = grpc.server(self.pool)
        self.proxy.add_generic_rpc_handlers((self,))
        if credentials:
            self.port = self.proxy.add_secure_port("127.0.0.1:0", credentials)
        else:
            self.port = self.proxy.add_insecure_port("127.0.0.1:0")
        self.proxy.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proxy.stop(None).wait()
        self.channel.close()
        self.pool.shutdown()

    def calls(self, method):
        """All calls of a method, in the order in which they came."""
        return [call for call in self.seen if call.method == method]

    def service(self, details):
        """What gRPC asks for each call: how to answer it, as bytes."""

        def answer(request, context):
            call = Seen(
                details.method.rpartition("/")[2],
                request,
                time.monotonic(),
                {row.key: row.value for row in context.invocation_metadata()},
                tuple(name.decode() for name in context.peer_identities() or ()),
            )
            with self.lock:
                number = len(self.calls(call.method))
                self.seen.append(call)
            what = self.spoil(call, number)
            if isinstance(what, Refused):
                what.refuse(context)
            if isinstance(what, bytes):
                return what
            try:
                # The real answer of the real server, whatever it is.
                call.answer = self.channel.unary_unary(details.method)(request, timeout=context.time_remaining())
            except grpc.RpcError as error:
                context.set_trailing_metadata(error.trailing_metadata() or ())
                context.abort(error.code(), error.details())
            if what == "lose":
                # As a proxy says it whose other side is gone: without a word of ours.
                context.abort(grpc.StatusCode.UNAVAILABLE, "upstream connect error")
            return call.answer

        return grpc.unary_unary_rpc_method_handler(answer)


class Refused:
    """An answer that the server never saw the call for."""

    def __init__(self, retry=None, pushback=None):
        self.retry, self.pushback = retry, pushback

    def refuse(self, context):
        info = error_details_pb2.ErrorInfo(
            reason="CLIENT_REQUEST_TO_STOP_JET_SERVICE",
            domain="jet.session.v1",
            metadata={"jet_error": "-1329", "jet_error_name": "JET_errClientRequestToStopJetService"},
        )
        details = [info]
        if self.retry is not None:
            details.append(error_details_pb2.RetryInfo())
            details[1].retry_delay.FromMilliseconds(round(self.retry * 1000))
        status = status_pb2.Status(code=14, message="The server drains.")
        for detail in details:
            packed = Any()
            packed.Pack(detail)
            status.details.append(packed)
        trailers = [("jet-error", "-1329"), ("grpc-status-details-bin", status.SerializeToString())]
        if self.pushback is not None:
            trailers.append(("grpc-retry-pushback-ms", str(self.pushback)))
        context.set_trailing_metadata(trailers)
        context.abort(grpc.StatusCode.UNAVAILABLE, status.message)
