package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	domain       = "jet.session.v1"
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// requestID is one for each thing to do, kept over all tries of it.
func requestID() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		panic(err)
	}
	return hex.EncodeToString(id[:])
}

// A refusal is what a status says to programs.
type refusal struct {
	code   codes.Code
	reason string // empty when the server did not say it, but a proxy or this side of the connection
	facts  map[string]string
	retry  *time.Duration
}

func refusalOf(err error) refusal {
	said := status.Convert(err)
	r := refusal{code: said.Code()}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				r.reason, r.facts = detail.GetReason(), detail.GetMetadata()
			}
		case *errdetails.RetryInfo:
			delay := detail.GetRetryDelay().AsDuration()
			r.retry = &delay
		}
	}
	return r
}

// notSet is whether it proves that a call that waited has set nothing.
func (r refusal) notSet() bool {
	return r.code == codes.DeadlineExceeded && r.reason == "NOT_SET"
}

// pauseBeforeRetry is the time after which the same request is worth another try, if it is.
func pauseBeforeRetry(err error, trailers metadata.MD, pause time.Duration) (time.Duration, bool) {
	if pushback := trailers.Get("grpc-retry-pushback-ms"); len(pushback) > 0 {
		// A negative one says "never".
		ms, err := strconv.ParseUint(pushback[0], 10, 31)
		return time.Duration(ms) * time.Millisecond, err == nil
	}
	r := refusalOf(err)
	mayPass := r.code == codes.Unavailable || r.code == codes.ResourceExhausted
	if mayPass && r.retry != nil {
		pause = *r.retry
	} else if r.code != codes.Unavailable || r.reason != "" {
		return 0, false
	}
	// Not all at the same moment, and none before its time.
	return pause + time.Duration(mathrand.Int63n(int64(pause)/5+1)), true
}

// call calls until there is an answer, another try would not help, or the time is up.
//
// The request goes out unchanged each time, so its request id makes it take effect once.
func call[Request, Answer any](
	ctx context.Context,
	timeout time.Duration,
	method func(context.Context, Request, ...grpc.CallOption) (Answer, error),
	request Request,
) (Answer, error) {
	ctx, end := context.WithTimeout(ctx, timeout)
	defer end()
	ends, pause := time.Now().Add(timeout), firstPause
	for {
		var trailers metadata.MD
		answer, err := method(ctx, request, grpc.Trailer(&trailers))
		if err == nil {
			return answer, nil
		}
		wait, again := pauseBeforeRetry(err, trailers, pause)
		if !again || time.Until(ends) <= wait {
			return answer, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return answer, err
		}
		if pause *= 2; pause > longestPause {
			pause = longestPause
		}
	}
}
