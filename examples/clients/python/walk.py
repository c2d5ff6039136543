"""One session and two threads, as correct clients go about it. From the root of the repository:

    pip install -r examples/clients/python/requirements.txt
    mkdir gen
    python -m grpc_tools.protoc --python_out=gen --grpc_python_out=gen --proto_path=proto \
        --proto_path="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
        proto/jet/session/v1/*.proto
    PYTHONPATH=gen python examples/clients/python/walk.py 127.0.0.1:50051
"""

import argparse
from concurrent.futures import ThreadPoolExecutor

import grpc
from client import Heartbeat, Refusal, call, connect, request_id, seconds
from jet.session.v1 import session_pb2, session_pb2_grpc, thread_pb2


def walk(channel, ttl):
    sessions = session_pb2_grpc.SessionServiceStub(channel)
    heartbeat = Heartbeat(channel, ttl)

    begin = session_pb2.BeginSessionRequest(instance="instances/main", request_id=request_id())
    session = call(sessions.BeginSession, begin).session.name
    print("began a session")

    # A takes it, under a lease, and is told if it loses it.
    take = session_pb2.SetSessionContextRequest(
        session=session,
        thread_id="worker-a/1",
        context=42,
        lease_ttl=seconds(ttl),
        request_id=request_id(),
    )
    a = call(sessions.SetSessionContext, take).fencing_token
    lost = heartbeat.watch(session, "worker-a/1", a)
    print("worker-a/1 holds it, and renews its lease")

    # B wants it at once, and is told who has it.
    want = session_pb2.SetSessionContextRequest(
        session=session, thread_id="worker-b/1", context=42, lease_ttl=seconds(ttl), request_id=request_id()
    )
    try:
        call(sessions.SetSessionContext, want)
        raise SystemExit("two threads hold one session")
    except grpc.RpcError as error:
        refusal = Refusal(error)
        if refusal.reason != "SESSION_CONTEXT_ALREADY_SET":
            raise
        holder = refusal.facts.get("holder_thread_id", "another")
        print(f"worker-b/1 is refused: {refusal.reason}, {holder} has it")

    # So it waits for its turn. This is another thing to do: it has a request_id of its own.
    want.wait_timeout.CopyFrom(seconds(30))
    want.request_id = request_id()
    waiting = ThreadPoolExecutor().submit(call, sessions.SetSessionContext, want, deadline=31)
    while call(sessions.GetSession, session_pb2.GetSessionRequest(name=session)).session.waiters == 0:
        if lost.wait(0.02):
            raise SystemExit("worker-a/1 has lost the session")
    print("worker-b/1 waits")

    # A lets go, and shows its token: should it have lost the session meanwhile, it takes it from nobody.
    heartbeat.forget(session, a)
    let_go = session_pb2.ResetSessionContextRequest(
        session=session, thread_id="worker-a/1", fencing_token=a, request_id=request_id()
    )
    call(sessions.ResetSessionContext, let_go)
    b = waiting.result().fencing_token
    heartbeat.watch(session, "worker-b/1", b)
    if b <= a:
        raise SystemExit("tokens must rise")
    print("worker-a/1 lets go, and worker-b/1 holds it under a larger token")

    # What A still does under its old token is refused wherever the token is looked at.
    check = session_pb2.CheckSessionContextRequest(session=session, thread_id="worker-a/1", fencing_token=a)
    try:
        call(sessions.CheckSessionContext, check)
        raise SystemExit("an old token counts")
    except grpc.RpcError as error:
        if Refusal(error).reason != "STALE_FENCING_TOKEN":
            raise
        print("the token of worker-a/1 is refused: STALE_FENCING_TOKEN")

    # The clean exit of a process: all that its threads hold is let go, and nothing is left to expire.
    heartbeat.stop()
    threads = heartbeat.threads
    call(threads.EndThreads, thread_pb2.EndThreadsRequest(thread_ids=["worker-a/1", "worker-b/1"]))
    end = session_pb2.EndSessionRequest(session=session, thread_id="worker-b/1", request_id=request_id())
    call(sessions.EndSession, end)
    print("done")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("address", help="HOST:PORT")
    options.add_argument("--ca", help="PEM file of the authority that the server's certificate is from: use TLS")
    options.add_argument("--certificate", help="PEM file of the client's certificate")
    options.add_argument("--key", help="PEM file of its key")
    options.add_argument("--token", help="file of a bearer token")
    options.add_argument("--lease", type=float, default=10.0, help="time to live of the leases, in seconds")
    options = vars(options.parse_args())
    ttl = options.pop("lease")
    with connect(**options) as channel:
        walk(channel, ttl)


if __name__ == "__main__":
    main()
