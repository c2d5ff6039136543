// What a client of jet-session should have, in some 200 lines: a connection that says who it is, calls that
// are tried again where that helps and never do a thing twice, refusals as data, and one heartbeat.
//
// docs/clients.md explains the rules that it follows.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";

import type { ProtoGrpcType as Details } from "../gen/error_details.js";
import type { ProtoGrpcType as Sessions } from "../gen/session.js";
import type { ProtoGrpcType as Threads } from "../gen/thread.js";
import type { Duration } from "../gen/google/protobuf/Duration.js";
import type { SessionServiceClient } from "../gen/jet/session/v1/SessionService.js";
import type { ThreadServiceClient } from "../gen/jet/session/v1/ThreadService.js";

const DOMAIN = "jet.session.v1";
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 2_000;

// Fencing tokens and context words have 64 bits, more than a number of JavaScript keeps: they stay texts.
const files = ["jet/session/v1/session.proto", "jet/session/v1/thread.proto", "google/rpc/error_details.proto"];
const definitions = loader.loadSync(files, {
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
  includeDirs: [process.env["PROTO"] ?? "../../../proto", "node_modules/google-proto-files"],
});
const proto = grpc.loadPackageDefinition(definitions) as unknown as Sessions & Threads & Details;
const { Status, ErrorInfo, RetryInfo } = { ...(proto as Sessions).google.rpc, ...(proto as Details).google.rpc };

/** Where the server is, and the files with what is needed to be let in. */
export interface Server {
  address: string;
  ca?: string | undefined;
  certificate?: string | undefined;
  key?: string | undefined;
  token?: string | undefined;
}

export interface Services {
  sessions: SessionServiceClient;
  threads: ThreadServiceClient;
}

/** Both services on one connection: in plaintext, or by TLS if `ca` is given. */
export function connect(server: Server): Services {
  const credentials = server.ca ? secure(server.ca, server) : grpc.credentials.createInsecure();
  if (!server.ca && (server.certificate || server.key || server.token)) {
    throw new Error("without TLS, who is there could be anybody, and would be shown the credentials");
  }
  const { SessionService, ThreadService } = { ...proto.jet.session.v1 };
  const sessions = new SessionService(server.address, credentials);
  const threads = new ThreadService(server.address, credentials, { channelOverride: sessions.getChannel() });
  return { sessions, threads };
}

function secure(ca: string, { certificate, key, token }: Server): grpc.ChannelCredentials {
  const read = (name: string | undefined) => (name ? readFileSync(name) : null);
  const tls = grpc.credentials.createSsl(read(ca), read(key), read(certificate));
  if (!token) {
    return tls;
  }
  // The file is read for each call, so that a new token counts at once.
  const bearer = grpc.credentials.createFromMetadataGenerator((_, done) => {
    readFile(token, "utf8").then(
      (text) => {
        const metadata = new grpc.Metadata();
        metadata.set("authorization", `Bearer ${text.trim()}`);
        done(null, metadata);
      },
      (error: Error) => done(error),
    );
  });
  return grpc.credentials.combineChannelCredentials(tls, bearer);
}

/** One for each thing to do, kept over all tries of it. */
export const requestId = (): string => randomUUID();

/** Milliseconds as the API writes durations. */
export function duration(milliseconds: number): Duration {
  return { seconds: Math.floor(milliseconds / 1_000), nanos: Math.round(milliseconds % 1_000) * 1_000_000 };
}

/** What a status says to programs. */
export class Refusal {
  readonly code: grpc.status;
  readonly reason: string | undefined;
  readonly facts: Record<string, string> = {};
  readonly retryAfter: number | undefined;

  constructor(error: grpc.ServiceError) {
    this.code = error.code;
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    const details = Buffer.isBuffer(bytes) ? Status.deserialize(bytes).details : [];
    for (const { type_url, value } of details) {
      if (type_url.endsWith("/google.rpc.ErrorInfo")) {
        const info = ErrorInfo.deserialize(value);
        if (info.domain === DOMAIN) {
          this.reason = info.reason;
          this.facts = info.metadata;
        }
      } else if (type_url.endsWith("/google.rpc.RetryInfo")) {
        const delay = RetryInfo.deserialize(value).retryDelay;
        this.retryAfter = delay ? Number(delay.seconds) * 1_000 + delay.nanos / 1_000_000 : undefined;
      }
    }
  }

  /** Whether the server said it, and not a proxy or this side of the connection. */
  get ours(): boolean {
    return this.reason !== undefined;
  }

  /** Whether it proves that a call that waited has set nothing. */
  get notSet(): boolean {
    return this.code === grpc.status.DEADLINE_EXCEEDED && this.reason === "NOT_SET";
  }
}

export function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

/** The milliseconds after which the same request is worth another try, or undefined if it is not. */
export function pauseBeforeRetry(error: grpc.ServiceError, pause: number): number | undefined {
  const [pushback] = error.metadata.get("grpc-retry-pushback-ms");
  if (pushback !== undefined) {
    // A negative one says "never".
    return /^\d+$/.test(String(pushback)) ? Number(pushback) : undefined;
  }
  const refusal = new Refusal(error);
  const mayPass = refusal.code === grpc.status.UNAVAILABLE || refusal.code === grpc.status.RESOURCE_EXHAUSTED;
  if (mayPass && refusal.retryAfter !== undefined) {
    pause = refusal.retryAfter;
  } else if (refusal.code !== grpc.status.UNAVAILABLE || refusal.ours) {
    return undefined;
  }
  // Not all at the same moment, and none before its time.
  return pause * (1 + 0.2 * Math.random());
}

/** A method of a generated client: of its forms the last, from which TypeScript infers, and the one used here. */
type Method<Request, Answer> = (request: Request, done: grpc.requestCallback<Answer>) => unknown;
type WithOptions<Request, Answer> = (
  request: Request,
  options: grpc.CallOptions,
  done: grpc.requestCallback<Answer>,
) => unknown;

/** One try. */
function once<Request, Answer>(method: Method<Request, Answer>, request: Request, deadline: number): Promise<Answer> {
  const call = method as unknown as WithOptions<Request, Answer>;
  return new Promise((resolve, reject) => {
    call(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer as Answer)));
  });
}

/**
 * Calls until there is an answer, another try would not help, or the time is up.
 *
 * The request goes out unchanged each time, so its requestId makes it take effect once.
 */
export async function call<Request, Answer>(
  method: Method<Request, Answer>,
  request: Request,
  milliseconds = 10_000,
): Promise<Answer> {
  const deadline = Date.now() + milliseconds;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    try {
      return await once(method, request, deadline);
    } catch (error) {
      const wait = isServiceError(error) ? pauseBeforeRetry(error, pause) : undefined;
      if (wait === undefined || Date.now() + wait >= deadline) {
        throw error;
      }
      await sleep(wait);
    }
  }
}

/** Renews the leases of all threads of this process together, and says what is lost. */
export class Heartbeat {
  // `session token` → who holds it, and what says that it is lost.
  readonly #held = new Map<string, { threadId: string; lost: AbortController }>();
  readonly #stopped = new AbortController();
  readonly #threads: ThreadServiceClient;
  readonly #ttl: number;
  #renewed = performance.now();

  constructor(threads: ThreadServiceClient, ttl: number) {
    this.#threads = threads;
    this.#ttl = ttl;
    void this.#run();
  }

  /** A signal that is aborted when the session is lost, by what is known here. */
  async watch(session: string, threadId: string, token: string): Promise<AbortSignal> {
    const lost = new AbortController();
    this.#held.set(`${session} ${token}`, { threadId, lost });
    // A Set that waited was sent long ago, which says nothing about how long its lease still lasts.
    await this.#beat();
    return lost.signal;
  }

  /** The session was let go of. */
  forget(session: string, token: string): void {
    this.#held.delete(`${session} ${token}`);
  }

  /** Ends the heartbeat; the leases go on until they end by themselves. */
  stop(): void {
    this.#stopped.abort();
  }

  /** One heartbeat. With more than 400 threads it would have to be several calls. */
  async #beat(): Promise<void> {
    const threadIds = [...new Set([...this.#held.values()].map((held) => held.threadId))];
    // The server counts from when it comes, which is later than when it is sent.
    const sent = performance.now();
    if (threadIds.length > 0) {
      const request = { threadIds, leaseTtl: duration(this.#ttl) };
      const keep = this.#threads.keepThreadsAlive.bind(this.#threads);
      try {
        const kept = await once(keep, request, Date.now() + this.#soon());
        // Losses are told again for minutes: the token says which of them are ours.
        for (const { session, fencingToken } of kept.threads.flatMap((thread) => thread.lost)) {
          this.#lose(`${session} ${fencingToken}`);
        }
      } catch {
        // The next one may come through, while there is time.
        if (performance.now() >= this.#renewed + this.#ttl) {
          [...this.#held.keys()].forEach((key) => this.#lose(key));
        }
        return;
      }
    }
    this.#renewed = Math.max(this.#renewed, sent);
  }

  #lose(key: string): void {
    this.#held.get(key)?.lost.abort();
    this.#held.delete(key);
  }

  /** A quarter of the time to live, or what is left of it. */
  #soon(): number {
    return Math.max(10, Math.min(this.#ttl / 4, this.#renewed + this.#ttl - performance.now()));
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await sleep(this.#soon(), undefined, { signal }).catch(() => {});
      if (!signal.aborted) {
        await this.#beat();
      }
    }
  }
}
