// A few threads that share the tiles of one job at a time.
//
// Each thread begins with a stretch of its own, and then helps with the others' until none is left: a worker that is late,
// asleep or lost to a fork costs speed and never the answer, and a core that someone else uses gets less. The caller
// works too. Workers that find no job spin for a moment, then sleep.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <type_traits>
#include <pthread.h>
#include <sched.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static inline void breathe() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Pool {
    typedef void (*Work)(void*, long);
    static constexpr int MOST = 255, SPINS = 4000;  // about 100 microseconds: the next operation is mostly sooner
    static constexpr uint64_t CLOSED = 0xffffffff;

    // A stretch of the job's tiles: one thread begins with it, others help when they have done theirs. The job's number
    // and the next tile are one word: who takes a tile knows that the job it read is still that one.
    struct alignas(128) Stretch {
        std::atomic<uint64_t> next{CLOSED};
        std::atomic<long> end{0};
    };
    Stretch stretches[MOST + 1];
    alignas(128) std::atomic<uint64_t> number{0};  // of the job; who has nothing to do looks at this alone
    std::atomic<Work> work{nullptr};
    std::atomic<void*> state{nullptr};
    std::atomic<int> parts{0};
    alignas(128) std::atomic<long> done{0};
    std::atomic<int> asleep{0};
    std::mutex caller, door;
    std::condition_variable bell;
    int workers = 0;

    // Work on a stretch until nothing is left of it.
    void empty(Stretch& from) {
        for (long count = 0;;) {
            uint64_t seen = from.next.load(std::memory_order_acquire);
            Work what = work.load(std::memory_order_acquire);
            void* with = state.load(std::memory_order_acquire);
            const long tile = long(seen & CLOSED);
            if (tile >= from.end.load(std::memory_order_acquire) || (seen & CLOSED) == CLOSED) {
                if (count) done.fetch_add(count, std::memory_order_release);
                return;
            }
            if (!from.next.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) continue;
            what(with, tile);
            count++;
        }
    }

    void help(int own) {
        const int count = parts.load(std::memory_order_relaxed);
        for (int i = 0; i < count; i++) empty(stretches[(own + i) % count]);
    }

    void serve(int own) {
        uint64_t seen = 0;
        for (int idle = 0;;) {
            const uint64_t now = number.load(std::memory_order_acquire);
            if (now != seen) {
                seen = now;
                help(own);
                idle = 0;
            } else if (++idle < SPINS) {
                breathe();
            } else {
                std::unique_lock<std::mutex> lock(door);
                asleep.fetch_add(1);
                bell.wait(lock, [&] { return number.load() != seen; });
                asleep.fetch_sub(1);
                idle = 0;
            }
        }
    }

  public:
    // Run work(state, tile) for every tile; who asks for one thread, or comes while others compute, works alone.
    // Otherwise all threads that were ever asked for may help.
    void run(long count, int threads, Work what, void* with) {
        std::unique_lock<std::mutex> turn(caller, std::defer_lock);
        if (count < 2 || threads < 2 || !turn.try_lock()) {
            for (long tile = 0; tile < count; tile++) what(with, tile);
            return;
        }
        while (workers < threads - 1 && workers < MOST) {
            const int own = workers + 1;
            try {
                std::thread([this, own] { serve(own); }).detach();
            } catch (const std::system_error&) {  // no more threads are allowed: so with fewer
                break;
            }
            workers++;
        }
        const uint64_t job = number.load(std::memory_order_relaxed) + 1;
        const int before = parts.load(std::memory_order_relaxed), now = int(std::min<long>(count, std::min(threads, MOST + 1)));
        for (int i = 0; i < before; i++) stretches[i].next.store((job << 32) | CLOSED, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);  // closed before anything of it changes
        work.store(what, std::memory_order_relaxed);
        state.store(with, std::memory_order_relaxed);
        parts.store(now, std::memory_order_relaxed);
        done.store(0, std::memory_order_relaxed);
        for (int i = 0; i < now; i++) {
            stretches[i].end.store(count * (i + 1) / now, std::memory_order_relaxed);
            stretches[i].next.store((job << 32) | uint64_t(count * i / now), std::memory_order_release);
        }
        number.store(job);
        if (asleep.load()) {
            { std::lock_guard<std::mutex> lock(door); }
            bell.notify_all();
        }
        help(0);
        for (int waited = 0; done.load(std::memory_order_acquire) < count;) {
            if (++waited < SPINS) breathe();
            else sched_yield();
        }
    }
};

// Never destroyed: its threads run until the process ends. A child of a fork has none of them and gets a new pool.
inline Pool*& the_pool() {
    static Pool* pool = [] {
        pthread_atfork(nullptr, nullptr, [] { the_pool() = new Pool; });
        return new Pool;
    }();
    return pool;
}

template <class F>
static void in_tiles(long count, int threads, F&& each) {
    auto call = [](void* with, long tile) { (*static_cast<std::remove_reference_t<F>*>(with))(tile); };
    the_pool()->run(count, threads, call, &each);
}

constexpr int64_t ALONE = 32768;  // numbers up to which one thread is done before another has heard of it

// work(first, end) for `rows` of `width` numbers, divided among threads where there are many.
template <class Work>
static void in_stretches(int64_t rows, int64_t width, int threads, Work&& work) {
    const int64_t pieces = rows * width <= ALONE ? 1 : std::min<int64_t>(rows, 4 * threads);
    const int64_t step = pieces ? (rows + pieces - 1) / pieces : 0;
    in_tiles(pieces, threads, [&](long piece) {
        work(std::min<int64_t>(rows, piece * step), std::min<int64_t>(rows, (piece + 1) * step));
    });
}
