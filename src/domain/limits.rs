//! Every bound in the program, each with its reason.
//!
//! A number that stops something from growing without end belongs here and nowhere else, so that an
//! operator can read on one page what the program may ever use.

/// Longest instance id in bytes: a DNS label (RFC 1035), so that an instance can name a host or a pod.
pub const INSTANCE_ID_BYTES_MAX: usize = 63;

/// Longest thread id in bytes: room for host, process and thread, small enough to keep a million.
pub const THREAD_ID_BYTES_MAX: usize = 128;

/// Most labels of an instance or a session: enough to tell pools apart, too few to be a database.
pub const LABELS_MAX: usize = 8;

/// Longest label key and longest label value in bytes, as for Kubernetes labels.
pub const LABEL_BYTES_MAX: usize = 63;

/// Owners that a table may know without looking for those that hold nothing any more: some 200 KiB,
/// and enough that a small table seldom looks. A large one may know twice as many as hold its sessions.
pub const UNUSED_OWNERS_MIN: usize = 1_024;

/// Longest reason of a forced change in bytes: a sentence, not a report.
pub const REASON_BYTES_MAX: usize = 256;

/// Longest name of a principal in bytes: a URI of SPIFFE or a DNS name with room to spare. Whoever
/// authenticates sees to it.
pub const PRINCIPAL_BYTES_MAX: usize = 256;

/// Rules of a policy. Each call goes through all of them: a thousand with a pattern or two take some ten
/// microseconds.
pub const POLICY_RULES_MAX: usize = 1_024;

/// Patterns of principals, or of instances, of one rule; whoever needs more has a name for them that they
/// begin with.
pub const RULE_PATTERNS_MAX: usize = 64;

/// Bearer tokens of a server: some 400 bytes each with the longest names.
pub const TOKENS_MAX: usize = 10_000;

/// Longest bearer token that is looked at, in bytes. One of ours has 43; those that carry claims are not for
/// us.
pub const TOKEN_BYTES_MAX: usize = 512;

/// Largest file of tokens or rules, in bytes: ten thousand tokens with the longest names fit.
pub const AUTH_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest `request_id` in bytes: a UUID has 36.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// How long an answer is kept for a retry of its call, in seconds: longer than any client goes on trying.
pub const RETRY_WINDOW_SECONDS: u64 = 15 * 60;

/// Answers that are kept for retries, per principal and instance; the oldest goes first. Each takes some
/// 290 bytes, also one that is a thousand sessions.
pub const RETRY_ANSWERS_MAX: usize = 1_048_576;

/// Answers that the record of an instance keeps for retries of calls on the instance itself; the oldest goes
/// first. Such calls are rare, and with the longest names this many take half of what a record may take.
pub const REPLAYS_MAX: usize = 64;

/// Deleted instances that something is kept of for retries, per principal; the oldest goes first. One a second
/// is what a busy suite of tests deletes.
pub const GONE_PER_PRINCIPAL_MAX: usize = 1_024;

/// The same for all principals of a server: some 32 MiB of a disk, and a start reads them in no time.
pub const GONE_MAX: usize = 4 * GONE_PER_PRINCIPAL_MAX;

/// The shortest lease, in seconds: a renewal must have time to be lost and sent again.
pub const LEASE_SECONDS_MIN: u64 = 1;

/// The longest lease, in seconds: a day. Who wants to keep a session longer than that unheard wants no
/// lease.
pub const LEASE_SECONDS_MAX: u64 = 24 * 60 * 60;

/// How late a lease is taken away at most, in seconds, by a server that is not overloaded: what
/// [`LEASE_GRACE_MS`] leaves is for timers and for taking many leases away at once.
pub const LEASE_LATENESS_SECONDS: u64 = 2;

/// Threads that have a lease in one instance at most: each takes some 200 bytes.
pub const LEASES_MAX: usize = 1_000_000;

/// Threads that one call renews or ends at most: with the longest ids such a request fits into what a
/// server takes, and its owner is done with it within a millisecond.
pub const THREADS_PER_CALL_MAX: usize = 400;

/// A thread id has a key of one byte and a length of two; the rest of the message is not as long as one.
const _: () = assert!(
    THREADS_PER_CALL_MAX * (THREAD_ID_BYTES_MAX + 3) + THREAD_ID_BYTES_MAX < REQUEST_BYTES_MAX
);

/// Sessions that are named of what a thread holds, at most; of what all threads of one renewal hold
/// together, too.
pub const HELD_NAMED_MAX: usize = 1_000;

/// Losses that one renewal tells at most, of all its threads together: with the longest names two thirds
/// of what is sent as one message. Each was told before, or will be when younger ones are too old.
pub const LOSSES_TOLD_MAX: usize = 5_000;

/// Threads that an instance is asked for at a time when threads are listed: with all they hold and wait
/// for, its owner is done with them within a few milliseconds.
pub const THREADS_LISTED_MAX: usize = 100;

/// Instances that are asked at a time for what concerns a thread in all of them: bounds what their answers
/// take before they are put together.
pub const INSTANCES_ASKED_AT_ONCE: usize = 32;

/// How long a thread is told what it lost, in seconds, or three times its lease if that is longer.
pub const LOSS_KEPT_SECONDS_MIN: u64 = 5 * 60;

/// Losses that are kept of one thread; the oldest goes first.
pub const LOSSES_PER_THREAD_MAX: usize = 1_000;

/// Losses that are kept of all threads of an instance, some 20 MiB; the oldest goes first.
pub const LOSSES_MAX: usize = 200_000;

/// Changes that ending leases makes at a time, so that calls never wait for more than that: a thousandth
/// of a second's work.
pub const EXPIRIES_AT_ONCE: usize = 512;

/// How long after its end a lease is taken away, in milliseconds. Renewals that arrived while the server
/// was stopped or busy are read meanwhile; a server that finds it has slept begins to wait again.
pub const LEASE_GRACE_MS: u64 = 1_000;

/// How much later than planned a timer may be before that means that the process has slept, in
/// milliseconds.
pub const SLEPT_MS_MIN: u64 = 250;

/// After a start the ends of leases are spread over a quarter of their length, and over this at most, in
/// seconds.
pub const STAGGER_SECONDS_MAX: u64 = 10;

/// Served time is recorded every quarter of the shortest lease that needs it, and this often at least, in
/// seconds.
pub const SERVED_RECORDED_SECONDS_MAX: u64 = 10;

/// Calls that may wait for one session: the last of them would wait for a thousand others.
pub const WAITERS_PER_SESSION_MAX: usize = 1_024;

/// Calls that may wait for the sessions of a pool.
pub const WAITERS_PER_POOL_MAX: usize = 65_536;

/// Calls that may wait on one server, some 800 MiB with their streams.
pub const WAITERS_MAX: usize = 100_000;

/// Streams of a connection that waiting calls leave free, so that a Reset can always be opened.
pub const STREAMS_NOT_WAITING_MIN: u32 = 32;

/// Calls of one connection that may wait.
pub const WAITERS_PER_CONNECTION_MAX: usize =
    (STREAMS_PER_CONNECTION_MAX - STREAMS_NOT_WAITING_MIN) as usize;

/// How long before its deadline a call stops waiting, in milliseconds: its answer must still arrive.
pub const NOT_SET_BEFORE_DEADLINE_MS: u64 = 20;

/// How long after its deadline a call that has waited may still be answered with the truth, in
/// milliseconds: a change that is being committed is answered as it is, unless the disk hangs.
pub const OVERTIME_MS_MAX: u64 = 1_000;

/// How long a call may take that only has to be decided, in seconds, whatever its client says: longer, and its
/// instance is stuck.
pub const CALL_SECONDS_MAX: u64 = 60;

/// How long a call may take that waits for a session, in seconds: as long as the longest lease.
pub const WAITING_CALL_SECONDS_MAX: u64 = LEASE_SECONDS_MAX;

/// How long a call may take that answers when an instance has moved, in seconds: the largest store is opened in
/// a small part of it.
pub const LIFECYCLE_CALL_SECONDS_MAX: u64 = 10 * 60;

/// How long a call may take that carries a backup, in seconds: ten million sessions over a slow line.
pub const TRANSFER_CALL_SECONDS_MAX: u64 = 4 * 60 * 60;

/// The wait before a retry that is advised when too many wait already, in milliseconds.
pub const QUEUE_FULL_RETRY_MS: u64 = 1_000;

/// Operations of a pipeline whose results have not been sent; no more are read meanwhile. Some two
/// megabytes a stream.
pub const PIPELINE_OPERATIONS_MAX: usize = 4_096;

/// Results that one message of a pipeline holds at most: with the longest names and labels they fit into
/// what a client takes.
pub const PIPELINE_RESULTS_MAX: usize = 256;

/// Sessions that one call begins at most.
pub const BATCH_BEGIN_MAX: u32 = 1_000;

/// Deepest nesting of transactions in a session, as in the engine (`JET_errTransTooDeep`).
pub const TRANSACTION_LEVEL_MAX: u8 = 7;

/// Instances a server has at most when nothing else is configured. The engine's default is 16; an
/// idle instance here costs a task and a kilobyte.
pub const INSTANCES_DEFAULT: usize = 1_024;

/// Sessions an instance has at most when it is created without a number
/// (`JET_paramMaxSessions`, whose default is 16 in the engine).
pub const SESSIONS_DEFAULT: u32 = 10_000;

/// The largest number of sessions an instance can be given: what fits in about 0.8 GiB, and in no more
/// than twice that while a copy is being written down.
pub const SESSIONS_MAX: u32 = 10_000_000;

/// Items on a page of a list when the request does not say (AIP-158).
pub const PAGE_SIZE_DEFAULT: u32 = 100;

/// Items on a page of a list at most; a larger wish is reduced to this (AIP-158).
pub const PAGE_SIZE_MAX: u32 = 1_000;

/// Sessions that one page of a filtered list looks at: keeps an owner's answer within a millisecond.
pub const LIST_SCAN_MAX: usize = 10_000;

/// Largest message taken from a client, in bytes: the largest honest request is a tenth of it.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Largest message sent to a client, in bytes: below the 4 MiB that gRPC clients take by default.
pub const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// What the items of one page may take of a response, in bytes; the rest is for the page token and
/// the framing. A page ends early rather than grow past it.
pub const PAGE_BYTES_MAX: usize = RESPONSE_BYTES_MAX - 16 * 1024;

/// Largest error details of a status, in bytes before base64: with the message they must fit into
/// the 8 KiB of headers that gRPC implementations accept by default.
pub const STATUS_DETAILS_BYTES_MAX: usize = 2 * 1024;

/// Sessions named in a refusal at most: enough to start looking, few enough to read.
pub const NAMED_SESSIONS_MAX: usize = 10;

/// Calls that may wait for an instance's owner before callers are held back. Behind it stand the
/// connections' stream limits, so this bounds memory, not fairness.
pub const OWNER_QUEUE_MAX: usize = 4_096;

/// Calls decided into one batch at most: bounds the size of a store's frame and the time to answer.
pub const BATCH_CALLS_MAX: usize = 1_024;

/// Changes decided into one batch before it is committed although calls wait: so many that committing
/// them costs more than beginning a batch, and few enough that they fit into a frame of the log together
/// with those of the call that comes last.
pub const BATCH_CHANGES_MAX: usize = 4_096;

/// Changes that one call makes at most, with those by which it gives what it has freed to calls that wait:
/// a thousand sessions that begin, each set at once by somebody who waited, who gets a lease.
pub const CALL_CHANGES_MAX: usize = 3 * BATCH_BEGIN_MAX as usize;

/// What a change takes in a frame of the log at most, in bytes: eight labels and every name as long as
/// it may be make some 1,400, and two requests that were answered 720 more where there are no labels.
pub const CHANGE_BYTES_MAX: usize = 2 * 1024;

/// Largest frame of the log, in bytes: room for the largest batch, and a bound on what is allocated
/// because a damaged file says so.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

const _: () = assert!(
    (BATCH_CHANGES_MAX + CALL_CHANGES_MAX) * CHANGE_BYTES_MAX + 1024 <= FRAME_BYTES_MAX,
    "the largest batch fits into a frame",
);

/// Largest file that holds the record of an instance, in bytes.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// The first segment of a log, in bytes: small, because an instance may never need more.
pub const SEGMENT_BYTES_FIRST: u64 = 256 * 1024;

/// Each segment is twice as long as the one before, up to this many bytes: few files, and never long
/// to prepare.
pub const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a log keeps for the day on which the disk is full, in bytes: a thousand resets and the seal.
pub const RESERVE_BYTES: u64 = 64 * 1024;

/// A snapshot is taken when the log has grown by this many bytes since the last one, or by the size of
/// the last one if that is more: replaying takes some ten milliseconds, and snapshots cost no more
/// than the log itself.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// Segments behind the older of the two snapshots, in bytes: the history that a watch can resume from.
pub const HISTORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Numbers that an instance whose durability is LAZY takes at a time, with one sync.
pub const TAKEN_NUMBERS: u64 = 1_000_000;

/// Bytes of answered changes that wait for their late sync at most; more answers wait for room.
pub const LAZY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Epochs that are left out when the floor of a directory is lost: more restores than the deleted
/// instances of any directory have seen, and a small part of the 65,536 that there are.
pub const EPOCHS_SKIPPED: u16 = 1_024;

/// The newest format of logs, snapshots and backups that this release reads, and the one it writes.
pub const LOG_FORMAT: u32 = 2;

/// Largest chunk of a backup in bytes: one frame, well below what any gRPC client takes.
pub const BACKUP_CHUNK_BYTES_MAX: usize = 32 * 1024;

/// Owners that a snapshot lists before it begins the list anew: bounds what either side keeps.
pub const OWNERS_LISTED_MAX: usize = 65_536;

/// What a session or an answer can take in a snapshot at most, in bytes: eight labels, three owners, a
/// principal and a reason, all as long as they may be, are half of it.
pub const ITEM_BYTES_MAX: usize = 8 * 1024;

/// How long an answer of an instance whose durability is LAZY may be ahead of its sync, in
/// milliseconds: what a power loss or a kill can take back at most.
pub const LAZY_SYNC_MS_MAX: u64 = 100;

/// Creations and deletions of instances that may wait at a time.
pub const REGISTRAR_QUEUE_MAX: usize = 64;

/// A bearer token that a client shows, in bytes: half of the headers that HTTP/2 servers commonly take.
pub const CLIENT_TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A file with certificates or a key that a client reads, in bytes: the authorities of a whole system are
/// a quarter of it.
pub const PEM_BYTES_MAX: usize = 1024 * 1024;

/// HTTP/2 streams a client may have open on one connection. Left unset, tonic would lift hyper's own
/// limit as well.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

/// Streams a client may open and reset before the server has answered them, per connection. hyper's
/// default of 20 punishes honest clients that cancel many calls at once; this allows every stream of
/// a connection to be cancelled twice over.
pub const PENDING_ACCEPT_RESETS_MAX: usize = 2 * STREAMS_PER_CONNECTION_MAX as usize;

/// Streams the server may have had to reset by itself on one connection before it closes it
/// (CVE-2024-2758 class of floods). Left unset, tonic would lift hyper's own limit.
pub const LOCAL_ERROR_RESETS_MAX: usize = 1_024;

/// Headers of one call that are taken, in bytes as HTTP/2 counts them: twice what gRPC implementations send at
/// most unless told otherwise, so that a large token fits.
pub const HEADERS_BYTES_MAX: u32 = 16 * 1024;

/// Largest HTTP/2 frame that is taken, in bytes: the least that the protocol allows. Longer messages are more
/// frames, and other calls of the connection come in between.
pub const HTTP_FRAME_BYTES_MAX: u32 = 16 * 1024;

/// Events of one instance that are kept for those who watch it: as many as a busy instance makes in the
/// time in which a watcher may be held up.
pub const WATCH_EVENTS_MAX: usize = 65_536;

/// What they may take, in bytes: with usual names, as many take no more.
pub const WATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What they may take in all instances of a server, in bytes. Where it is reached, each busy instance keeps
/// no more than an equal share; what others took before goes when they next tell something.
pub const WATCH_SERVER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What an instance may keep for those who watch it however many others there are, in bytes: the largest
/// batch of calls with usual names, and 256 MiB in a thousand busy instances.
pub const WATCH_BYTES_MIN: usize = 256 * 1024;

/// Snapshots that a server sends to watchers at a time; the others wait their turn. Each may hold on to
/// a copy of what changes in its instance meanwhile.
pub const WATCH_SNAPSHOTS_MAX: usize = 4;

/// Watchers that a server reads the log for at a time; the others wait their turn. Each holds the
/// sessions of its instance as they were then.
pub const WATCH_HISTORIES_MAX: usize = 2;

/// Events of a snapshot, or of the log, that are made ready for a watcher at a time: some 100 KiB.
pub const WATCH_PIECE_EVENTS: usize = 256;

/// How long a watcher may keep its place among those that are sent a snapshot, or the log, without taking
/// anything, in seconds: others wait for the place.
pub const WATCH_STALL_SECONDS_MAX: u64 = 5;

/// How long a watch is silent before it tells how far it is, in seconds.
pub const WATCH_SILENCE_SECONDS_MAX: u64 = 60;

/// Bytes of the log that are read for a watcher at a time: a few milliseconds of a thread.
pub const HISTORY_READ_BYTES: usize = 256 * 1024;

/// How often the counts of an instance are told to those who watch it, in milliseconds; everything
/// else about it is told at once.
pub const WATCH_COUNTS_EVERY_MS: u64 = 1_000;

/// How long a draining server waits for calls in flight when nothing else is configured, in seconds.
pub const DRAIN_SECONDS_DEFAULT: u64 = 10;

/// How long a new connection that says nothing is kept by a server that drains, in milliseconds: what was on its
/// way when the drain began arrives, and gets an answer that says to try elsewhere.
pub const DRAIN_PREFACE_MS_MAX: u64 = 500;

/// How long a connection must have been without a call before a draining server says goodbye on it, in
/// milliseconds. A call that crosses the goodbye fails in many clients as if it had failed for good; one that was
/// just refused is repeated half a second later, on another connection.
pub const DRAIN_QUIET_MS: u64 = 100;

/// After this long a draining server says goodbye also where calls go on, in milliseconds.
pub const DRAIN_QUIET_MS_MAX: u64 = 1_000;

/// How long a peer whose connection is being shut down, and that no call is under way for, may take to answer that
/// it knows, in seconds: more than one round trip over any line. One that is frozen would otherwise take all of
/// the drain.
pub const DRAIN_SILENCE_SECONDS_MAX: u64 = 3;

/// How long sealing and closing may take when the drain deadline has passed, in seconds.
pub const CLOSE_SECONDS_MAX: u64 = 1;

/// The longest `tracestate` that is passed on, in bytes: as much as W3C Trace Context asks for at least.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// Spans that wait to be sent to a collector, some 2 MiB; more are dropped, because no call waits for a
/// collector.
pub const TRACES_QUEUE_MAX: usize = 4_096;

/// Spans that are sent to a collector together.
pub const TRACES_BATCH_MAX: usize = 512;

/// How long a span waits for others to be sent with, in milliseconds.
pub const TRACES_EVERY_MS: u64 = 1_000;

/// How long a collector may take to answer, in seconds, before what it was sent is given up.
pub const TRACES_EXPORT_SECONDS_MAX: u64 = 5;

/// How long the last spans may take when the server ends, in milliseconds: less than sealing and closing may.
pub const TRACES_FLUSH_MS_MAX: u64 = 500;

/// Connections to the metrics listener at a time; more are closed at once. A few monitors and probes ask, one
/// request each.
pub const METRICS_CONNECTIONS_MAX: usize = 32;

/// How long one of them may take in all, in seconds: as long as Prometheus waits unless told otherwise.
/// Whoever reads more slowly than that is cut off.
pub const METRICS_SECONDS_MAX: u64 = 10;

/// How long one of them may take to say what it wants, in seconds.
pub const METRICS_HEADER_SECONDS_MAX: u64 = 5;

/// Bytes of a request to the metrics listener: hyper takes no smaller bound.
pub const METRICS_REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Connections of probes at a time: a kubelet has a few, and one that is new closes the oldest.
pub const HEALTH_CONNECTIONS_MAX: usize = 64;

/// Streams a probe may have open on one connection: a check, and watches of a few names.
pub const HEALTH_STREAMS_MAX: u32 = 64;

/// Connections the system may hold for us before we accept them.
pub const LISTEN_BACKLOG: u32 = 1_024;

/// Connections of clients that a server has at a time when nothing else is configured. One that is idle takes
/// up to 16 KiB and a file descriptor; behind a proxy a few serve everybody.
pub const CONNECTIONS_DEFAULT: usize = 10_000;

/// The largest number of connections that can be configured: what a process can have of open files on Linux
/// unless the kernel is told otherwise.
pub const CONNECTIONS_MAX: usize = 1_048_576;

/// Places that a server listens at.
pub const LISTENERS_MAX: usize = 16;

/// The largest number of threads that can be configured.
pub const THREADS_MAX: usize = 1_024;

/// The largest number of instances that can be configured: each has a task, a directory and open files.
pub const INSTANCES_MAX: usize = 100_000;

/// Largest configuration file that is read, in bytes: every setting with its reason takes a hundredth of it.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Headers that can be configured for exports of traces: a collector asks for one or two.
pub const OTLP_HEADERS_MAX: usize = 16;

/// Longest text of a configuration that is repeated when it is wrong, in characters: enough to find it by.
pub const SHOWN_CHARACTERS_MAX: usize = 100;

/// How often the files that a configuration names are looked at, in seconds; one that has changed is read when
/// it is the same at the next look, so that none is read half written. A few calls to the system each, and soon
/// enough for certificates and for the symbolic links that Kubernetes swaps.
pub const FILES_LOOKED_AT_SECONDS: u64 = 5;

/// The longest drain that can be configured, in seconds.
pub const DRAIN_SECONDS_MAX: u64 = 3_600;

/// Accepted connections that may wait for a worker thread.
pub const ACCEPTED_QUEUE_MAX: usize = 64;

/// Pause after a connection could not be accepted, in milliseconds.
pub const ACCEPT_PAUSE_MS: u64 = 50;

/// How often a silent connection is asked whether it is still there, in seconds. gRPC servers may ask
/// every ten seconds and more (gRFC A8); half a minute finds dead peers soon enough.
pub const KEEPALIVE_INTERVAL_SECONDS: u64 = 30;

/// How long a connection may take to answer that, in seconds.
pub const KEEPALIVE_TIMEOUT_SECONDS: u64 = 20;

/// How long an upload of a backup may be silent, in seconds: nobody can use its instance meanwhile.
pub const UPLOAD_SILENCE_SECONDS_MAX: u64 = 60;

/// How long a new connection may take to become one, in seconds, its TLS handshake included: clients speak
/// first and at once, and whoever says nothing takes the place of somebody else.
pub const SILENCE_SECONDS_MAX: u64 = 10;

/// How often it is said that connections are refused, in seconds: whoever sees to that knows after once, and
/// peers must not be able to fill the log.
pub const REFUSING_SAID_EVERY_SECONDS: u64 = 60;

/// Largest file of certificates or keys, in bytes: all roots of the web are a quarter of it.
pub const TLS_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Longest path of a socket in the file system, in bytes: what the kernel has room for (`sun_path`), without the
/// zero at its end.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// How long a server may wait for another one that is about to listen in the same directory, in milliseconds:
/// a thousand times what it takes.
pub const SOCKET_LOCK_MS_MAX: u64 = 1_000;

/// How often it looks whether the other one is done, in milliseconds.
pub const SOCKET_LOCK_EVERY_MS: u64 = 10;

/// The shortest wait before a retry that is advised while an instance is on its way, in milliseconds:
/// asking more often would only slow it down.
pub const RETRY_AFTER_MS_MIN: u64 = 50;

/// The longest such wait, in milliseconds: estimates err, and whoever looks twice a minute costs nothing.
pub const RETRY_AFTER_MS_MAX: u64 = 30_000;

/// Heartbeats that a client has in flight at a time when its threads do not fit into one: a slow answer
/// must not hold up the others, and a server need not take all of them at once.
pub const HEARTBEATS_AT_ONCE: usize = 4;

/// Contexts whose loss a client looks into at a time after a heartbeat told of it.
pub const LOOKUPS_AT_ONCE: usize = 16;

/// Clean-ups that a client may owe at a time: resets of guards that were dropped, and calls given up
/// before their answer. A process that drops more at once leaves the rest to their leases.
pub const CLEAN_UPS_MAX: usize = 16_384;

/// Clean-ups that a client has in flight at a time: fewer than the streams of a connection, so that they
/// never keep other calls waiting.
pub const CLEAN_UPS_AT_ONCE: usize = 64;

/// Retries that a client may make in a row, over all its calls, before it only tries each call once.
/// Every success earns a tenth of one back, as in gRPC's retry throttling (gRFC A6).
pub const RETRY_TOKENS_MAX: u32 = 100;

/// The first pause before a retry that nobody advised, in milliseconds; each further one is twice as
/// long.
pub const RETRY_PAUSE_MS_FIRST: u64 = 50;

/// The longest pause before a retry that nobody advised, in milliseconds.
pub const RETRY_PAUSE_MS_MAX: u64 = 2_000;
