// One session and two threads, as correct clients go about it. In this folder:
//
//     npm ci
//     npm run build
//     node dist/src/walk.js 127.0.0.1:50051

import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";

import { call, connect, duration, Heartbeat, isServiceError, Refusal, requestId } from "./client.js";
import type { Server } from "./client.js";

/** What this refusal says, if it has this reason; anything else is thrown on. */
function refused(reason: string): (error: unknown) => Refusal {
  return (error) => {
    const refusal = isServiceError(error) ? new Refusal(error) : undefined;
    if (refusal?.reason !== reason) {
      throw error;
    }
    return refusal;
  };
}

async function walk(server: Server, ttl: number): Promise<void> {
  const { sessions, threads } = connect(server);
  const heartbeat = new Heartbeat(threads, ttl);
  const set = sessions.setSessionContext.bind(sessions);

  const begin = { instance: "instances/main", requestId: requestId() };
  const begun = await call(sessions.beginSession.bind(sessions), begin);
  const session = begun.session?.name ?? "";
  console.log("began a session");

  // A takes it, under a lease, and is told if it loses it.
  const take = { session, threadId: "worker-a/1", context: 42, leaseTtl: duration(ttl), requestId: requestId() };
  const a = (await call(set, take)).fencingToken;
  const lost = await heartbeat.watch(session, "worker-a/1", a);
  console.log("worker-a/1 holds it, and renews its lease");

  // B wants it at once, and is told who has it.
  const want = { session, threadId: "worker-b/1", context: 42, leaseTtl: duration(ttl), requestId: requestId() };
  const { reason, facts } = await call(set, want).then(() => {
    throw new Error("two threads hold one session");
  }, refused("SESSION_CONTEXT_ALREADY_SET"));
  console.log(`worker-b/1 is refused: ${reason}, ${facts["holder_thread_id"] ?? "another"} has it`);

  // So it waits for its turn. This is another thing to do: it has a requestId of its own.
  const waiting = call(set, { ...want, waitTimeout: duration(30_000), requestId: requestId() }, 31_000);
  const get = sessions.getSession.bind(sessions);
  while ((await call(get, { name: session })).session?.waiters === 0) {
    // Throws when the session is lost.
    await sleep(20, undefined, { signal: lost });
  }
  console.log("worker-b/1 waits");

  // A lets go, and shows its token: should it have lost the session meanwhile, it takes it from nobody.
  heartbeat.forget(session, a);
  const letGo = { session, threadId: "worker-a/1", fencingToken: a, requestId: requestId() };
  await call(sessions.resetSessionContext.bind(sessions), letGo);
  const b = (await waiting).fencingToken;
  await heartbeat.watch(session, "worker-b/1", b);
  if (BigInt(b) <= BigInt(a)) {
    throw new Error("tokens must rise");
  }
  console.log("worker-a/1 lets go, and worker-b/1 holds it under a larger token");

  // What A still does under its old token is refused wherever the token is looked at.
  const check = { session, threadId: "worker-a/1", fencingToken: a };
  await call(sessions.checkSessionContext.bind(sessions), check).then(() => {
    throw new Error("an old token counts");
  }, refused("STALE_FENCING_TOKEN"));
  console.log("the token of worker-a/1 is refused: STALE_FENCING_TOKEN");

  // The clean exit of a process: all that its threads hold is let go, and nothing is left to expire.
  heartbeat.stop();
  await call(threads.endThreads.bind(threads), { threadIds: ["worker-a/1", "worker-b/1"] });
  const end = { session, threadId: "worker-b/1", requestId: requestId() };
  await call(sessions.endSession.bind(sessions), end);
  console.log("done");
  sessions.close();
}

const file = { type: "string" } as const;
const { values, positionals } = parseArgs({
  options: { ca: file, certificate: file, key: file, token: file, lease: { type: "string", default: "10" } },
  allowPositionals: true,
});
const [address] = positionals;
if (!address) {
  throw new Error("usage: walk.js [--ca FILE] [--certificate FILE --key FILE] [--token FILE] [--lease SECONDS] HOST:PORT");
}
await walk({ address, ...values }, Number(values.lease) * 1_000);
