package main

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	jet "example.com/walk/gen/jet/session/v1"
)

// A holding is a session and the token that it is held with.
type holding struct {
	session string
	token   uint64
}

// A heartbeat renews the leases of all threads of this process together, and says what is lost.
type heartbeat struct {
	threads jet.ThreadServiceClient
	ttl     time.Duration

	mu      sync.Mutex
	held    map[holding]holder
	renewed time.Time
}

type holder struct {
	threadID string
	lost     context.CancelFunc
}

// newHeartbeat goes on until ctx is done; the leases go on until they end by themselves.
func newHeartbeat(ctx context.Context, threads jet.ThreadServiceClient, ttl time.Duration) *heartbeat {
	h := &heartbeat{threads: threads, ttl: ttl, held: map[holding]holder{}, renewed: time.Now()}
	go func() {
		for {
			select {
			case <-time.After(h.soon()):
				h.beat(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return h
}

// watch returns a context that is done when the session is lost, by what is known here.
func (h *heartbeat) watch(ctx context.Context, session, threadID string, token uint64) context.Context {
	holds, lost := context.WithCancel(ctx)
	h.mu.Lock()
	h.held[holding{session, token}] = holder{threadID, lost}
	h.mu.Unlock()
	// A Set that waited was sent long ago, which says nothing about how long its lease still lasts.
	h.beat(ctx)
	return holds
}

// forget says that the session was let go of.
func (h *heartbeat) forget(session string, token uint64) {
	h.lose([]holding{{session, token}})
}

// beat is one heartbeat. With more than 400 threads it would have to be several calls.
func (h *heartbeat) beat(ctx context.Context) {
	h.mu.Lock()
	var all []holding
	var threadIDs []string // the server takes one that is named twice once
	for what, who := range h.held {
		all, threadIDs = append(all, what), append(threadIDs, who.threadID)
	}
	h.mu.Unlock()

	// The server counts from when it comes, which is later than when it is sent.
	sent := time.Now()
	var gone []holding
	if len(threadIDs) > 0 {
		trying, done := context.WithTimeout(ctx, h.soon())
		defer done()
		request := &jet.KeepThreadsAliveRequest{ThreadIds: threadIDs, LeaseTtl: durationpb.New(h.ttl)}
		kept, err := h.threads.KeepThreadsAlive(trying, request)
		if err != nil {
			// The next one may come through, while there is time.
			if h.left() <= 0 {
				h.lose(all)
			}
			return
		}
		for _, thread := range kept.GetThreads() {
			for _, loss := range thread.GetLost() {
				// Losses are told again for minutes: the token says which of them are ours.
				gone = append(gone, holding{loss.GetSession(), loss.GetFencingToken()})
			}
		}
	}
	h.mu.Lock()
	if sent.After(h.renewed) {
		h.renewed = sent
	}
	h.mu.Unlock()
	h.lose(gone)
}

func (h *heartbeat) lose(gone []holding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, what := range gone {
		if who, held := h.held[what]; held {
			who.lost()
			delete(h.held, what)
		}
	}
}

func (h *heartbeat) left() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Until(h.renewed.Add(h.ttl))
}

// soon is a quarter of the time to live, or what is left of it.
func (h *heartbeat) soon() time.Duration {
	soon := h.ttl / 4
	if left := h.left(); left < soon {
		soon = left
	}
	if soon < 10*time.Millisecond {
		soon = 10 * time.Millisecond
	}
	return soon
}
