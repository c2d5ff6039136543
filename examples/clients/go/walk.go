// One session and two threads, as correct clients go about it. In this folder, with protoc, protoc-gen-go,
// protoc-gen-go-grpc, and the protos of googleapis in $GOOGLEAPIS:
//
//	./generate "$GOOGLEAPIS"
//	go mod init example.com/walk && go mod tidy
//	go run . 127.0.0.1:50051
//
// client.go, dial.go and heartbeat.go are what any client should have. docs/clients.md explains the rules
// that they follow.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	jet "example.com/walk/gen/jet/session/v1"
)

const patience = 10 * time.Second

func walk(ctx context.Context, s server, ttl time.Duration) error {
	connection, err := dial(s)
	if err != nil {
		return err
	}
	defer connection.Close()
	sessions, threads := jet.NewSessionServiceClient(connection), jet.NewThreadServiceClient(connection)
	beating, stop := context.WithCancel(ctx)
	defer stop()
	heart := newHeartbeat(beating, threads, ttl)

	begun, err := call(ctx, patience, sessions.BeginSession, &jet.BeginSessionRequest{
		Instance:  "instances/main",
		RequestId: requestID(),
	})
	if err != nil {
		return err
	}
	session := begun.GetSession().GetName()
	fmt.Println("began a session")

	// A takes it, under a lease, and is told if it loses it.
	taken, err := call(ctx, patience, sessions.SetSessionContext, &jet.SetSessionContextRequest{
		Session:   session,
		ThreadId:  "worker-a/1",
		Context:   42,
		LeaseTtl:  durationpb.New(ttl),
		RequestId: requestID(),
	})
	if err != nil {
		return err
	}
	a := taken.GetFencingToken()
	holds := heart.watch(ctx, session, "worker-a/1", a)
	fmt.Println("worker-a/1 holds it, and renews its lease")

	// B wants it at once, and is told who has it.
	want := &jet.SetSessionContextRequest{
		Session:   session,
		ThreadId:  "worker-b/1",
		Context:   42,
		LeaseTtl:  durationpb.New(ttl),
		RequestId: requestID(),
	}
	_, err = call(ctx, patience, sessions.SetSessionContext, want)
	said := refusalOf(err)
	if said.reason != "SESSION_CONTEXT_ALREADY_SET" {
		return fmt.Errorf("two threads hold one session, or: %w", err)
	}
	fmt.Printf("worker-b/1 is refused: %s, %s has it\n", said.reason, said.facts["holder_thread_id"])

	// So it waits for its turn. This is another thing to do: it has a request id of its own.
	want.WaitTimeout, want.RequestId = durationpb.New(30*time.Second), requestID()
	type granted struct {
		answer *jet.SetSessionContextResponse
		err    error
	}
	waiting := make(chan granted, 1)
	go func() {
		answer, err := call(ctx, 31*time.Second, sessions.SetSessionContext, want)
		waiting <- granted{answer, err}
	}()
	for waiters := int32(0); waiters == 0; {
		seen, err := call(ctx, patience, sessions.GetSession, &jet.GetSessionRequest{Name: session})
		if err != nil {
			return err
		}
		waiters = seen.GetSession().GetWaiters()
		select {
		case <-time.After(20 * time.Millisecond):
		case <-holds.Done():
			return errors.New("worker-a/1 has lost the session")
		}
	}
	fmt.Println("worker-b/1 waits")

	// A lets go, and shows its token: should it have lost the session meanwhile, it takes it from nobody.
	heart.forget(session, a)
	_, err = call(ctx, patience, sessions.ResetSessionContext, &jet.ResetSessionContextRequest{
		Session:      session,
		ThreadId:     "worker-a/1",
		FencingToken: a,
		RequestId:    requestID(),
	})
	if err != nil {
		return err
	}
	next := <-waiting
	if next.err != nil {
		return next.err
	}
	b := next.answer.GetFencingToken()
	heart.watch(ctx, session, "worker-b/1", b)
	if b <= a {
		return errors.New("tokens must rise")
	}
	fmt.Println("worker-a/1 lets go, and worker-b/1 holds it under a larger token")

	// What A still does under its old token is refused wherever the token is looked at.
	_, err = call(ctx, patience, sessions.CheckSessionContext, &jet.CheckSessionContextRequest{
		Session:      session,
		ThreadId:     "worker-a/1",
		FencingToken: a,
	})
	if refusalOf(err).reason != "STALE_FENCING_TOKEN" {
		return fmt.Errorf("an old token counts, or: %w", err)
	}
	fmt.Println("the token of worker-a/1 is refused: STALE_FENCING_TOKEN")

	// The clean exit of a process: all that its threads hold is let go, and nothing is left to expire.
	stop()
	_, err = call(ctx, patience, threads.EndThreads, &jet.EndThreadsRequest{
		ThreadIds: []string{"worker-a/1", "worker-b/1"},
	})
	if err != nil {
		return err
	}
	_, err = call(ctx, patience, sessions.EndSession, &jet.EndSessionRequest{
		Session:   session,
		ThreadId:  "worker-b/1",
		RequestId: requestID(),
	})
	if err != nil {
		return err
	}
	fmt.Println("done")
	return nil
}

func main() {
	var s server
	flag.StringVar(&s.ca, "ca", "", "PEM file of the authority that the server's certificate is from: use TLS")
	flag.StringVar(&s.certificate, "certificate", "", "PEM file of the client's certificate")
	flag.StringVar(&s.key, "key", "", "PEM file of its key")
	flag.StringVar(&s.token, "token", "", "file of a bearer token")
	lease := flag.Float64("lease", 10, "time to live of the leases, in seconds")
	flag.Parse()
	s.address = flag.Arg(0)
	if err := walk(context.Background(), s, time.Duration(*lease*float64(time.Second))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
