// Training of models with one layer of many units between few inputs and the output (`wide`), whose
// sums over units are chains: a block a model, all steps of a launch in one kernel.
//
// Two chains over all units are as long as a step can be short: the output's, and that of each input's
// delta.  So a part of the units is computed beside the chain over the part before it:
//
//   forward    lane = example, eight units at a time; warp 0: the output's chain, alone on its scheduler
//   backward   the last warps: lane = unit, its deltas, gradients and updates; the first warps: lane =
//              example, the chains of PAIR inputs each
//
// In front of this text stand batch.cu, and of the first layer SETS, BIASED, ACTIVE.

constexpr int M = FAN[1], N = FAN[2], EACH = M / SETS, INPUTS = FAN[0] / SETS;
constexpr int PAIR = M % 2 == 0 ? 2 : 1, CHAINS = M / PAIR;  // warps with chains, backward
constexpr int WARPS = CHAINS + WORKERS, BESIDE = WARPS - (WARPS + 3) / 4;  // not on warp 0's scheduler
constexpr int PART = 32 * WORKERS;    // units of a part, backward
constexpr int EIGHTS = 2 * BESIDE;    // eights of units of a part, forward
// where in shared memory: z of the layer, later its deltas, four units of an example next to each other;
// z, h and deltas of the first layer; the output's deltas; two parts' weights as they were before the step
constexpr int Z = NUMBERS, FOUR = 132, Z0 = Z + N / 4 * FOUR, H0 = Z0 + M * ROW, D0 = H0 + M * ROW;
constexpr int OUT = D0 + M * ROW, OLD = OUT + ROW, MASKS = OLD + 2 * M * PART;
static_assert(N % 8 == 0 && WEIGHTS[1] % 4 == 0 && WEIGHTS[2] % 4 == 0, "units in eights");

// The q-th eight of units in the order of the chains; where from its first unit on the r-th one is.
__device__ __forceinline__ u32 eight(u32 q) { return UNIT_CHAIN > 0 ? q : N / 8 - 1 - q; }
__device__ __forceinline__ constexpr int place(int r) { return UNIT_CHAIN > 0 ? r : 7 - r; }

// z or deltas of eight units, of one example.
template <int V> __device__ __forceinline__ void load_eight(const number* p, number (&v)[V]) {
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    number some[4];
    load<4>(p + k * FOUR, some);
#pragma unroll
    for (int r = 0; r < 4; ++r) v[4 * k + r] = some[r];
  }
}
__device__ __forceinline__ void store_eight(number* p, const number (&v)[8]) {
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const number some[4] = {v[4 * k], v[4 * k + 1], v[4 * k + 2], v[4 * k + 3]};
    store<4>(p + k * FOUR, some);
  }
}

// Warp `set`: the first layer over a set of the features, and which examples have each of them.
__device__ __forceinline__ void first_layer(number* m, u32 x, u32 lane, u32 set, RoundingKey t) {
  Unit sums[EACH];
  u32 mine = 0;
  u32 rest = __reduce_or_sync(ALL_LANES, x) >> set * INPUTS & (0xFFFFFFFFu >> (32 - INPUTS));
  while (rest) {
    const u32 j = UNIT_CHAIN > 0 ? __ffs((int)rest) - 1 : 31 - __clz((int)rest);
    rest &= ~(1u << j);
    const bool present = x >> (set * INPUTS + j) & 1;
    const u32 examples = __ballot_sync(ALL_LANES, present);
    if (lane == j) mine = examples;
#pragma unroll
    for (int u = 0; u < EACH; ++u) {
      if (present) sums[u].term(m[(set * INPUTS + j) * EACH + u], t);
    }
  }
  if (lane < INPUTS) reinterpret_cast<u32*>(m + MASKS)[set * INPUTS + lane] = mine;
#pragma unroll
  for (int u = 0; u < EACH; ++u) {
    const u32 at = set * EACH + u;
    number z = sums[u].result(t);
    if (BIASED) z = op_add(z, m[BIASES + at], t);
    if (ACTIVE) m[Z0 + at * ROW + lane] = z;
    m[H0 + at * ROW + lane] = ACTIVE ? activation(z, t) : z;
  }
}

// z of the q-th eight of units.
__device__ __forceinline__ void forward_eight(number* m, const number (&h)[M], u32 lane, u32 q,
                                              RoundingKey t) {
  const u32 first = 8 * eight(q);
  number w[M][8], z[8];
#pragma unroll
  for (int j = 0; j < M; ++j) load<8>(m + WEIGHTS[1] + j * N + first, w[j]);
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    Unit sum;
#pragma unroll
    for (int j = 0; j < M; ++j) {
      const int input = UNIT_CHAIN > 0 ? j : M - 1 - j;
      sum.product(h[input], w[input][r], t);
    }
    z[r] = op_add(sum.result(t), m[BIASES + UNIT[1] + first + r], t);
  }
  store_eight(m + Z + first / 4 * FOUR + 4 * lane, z);
}

// step(values) for each eight from `begin` to before `end`, in order, of values that load(q, values) has
// loaded a turn before.  The barrier is there for the compiler, which would load when they are needed.
template <int V, class Load, class Step>
__device__ __forceinline__ void ahead(u32 begin, u32 end, Load load, Step step) {
  number now[V], next[V];
  if (begin < end) load(begin, now);
  u32 q = begin;
#pragma unroll 1
  for (; q + 2 < end; q += 2) {
    load(q + 1, next);
    __syncwarp();
    step(now);
    load(q + 2, now);
    __syncwarp();
    step(next);
  }
  if (q + 1 < end) load(q + 1, next);
  if (q < end) step(now);
  if (q + 1 < end) step(next);
}

// The output's chain over the eights from `begin` to before `end`.
__device__ __forceinline__ void forward_chain(const number* m, u32 lane, u32 begin, u32 end,
                                              Unit& sum, RoundingKey t) {
  ahead<16>(begin, end, [&](u32 q, number (&v)[16]) {
    load_eight(m + Z + eight(q) * 2 * FOUR + 4 * lane, v);
    load<8>(m + WEIGHTS[2] + 8 * eight(q), v, 8);
  }, [&](const number (&v)[16]) {
#pragma unroll
    for (int r = 0; r < 8; ++r) sum.product(activation(v[place(r)], t), v[8 + place(r)], t);
  });
}

// The chains of PAIR inputs' deltas over the eights from `begin` to before `end`, with their weights as
// they were, of which `old` has those from `begin` on.
__device__ __forceinline__ void backward_chain(const number* m, const number* old, u32 lane,
                                               u32 begin, u32 end, Unit (&sums)[PAIR],
                                               RoundingKey t) {
  constexpr int V = 8 * (1 + PAIR);
  ahead<V>(begin, end, [&](u32 q, number (&v)[V]) {
    load_eight(m + Z + eight(q) * 2 * FOUR + 4 * lane, v);
#pragma unroll
    for (int j = 0; j < PAIR; ++j) load<8>(old + j * PART + 8 * (q - begin), v, 8 + 8 * j);
  }, [&](const number (&v)[V]) {
#pragma unroll
    for (int r = 0; r < 8; ++r) {
#pragma unroll
      for (int j = 0; j < PAIR; ++j) sums[j].product(v[8 + 8 * j + r], v[place(r)], t);
    }
  });
}

// The deltas of one unit for all examples, its gradients and the update of its weights and bias.
__device__ __forceinline__ void descend_unit(number* m, number* old, u32 unit, number rate,
                                             RoundingKey t) {
  number* w = m + WEIGHTS[1] + unit;
  number* of_unit = m + Z + unit / 4 * FOUR + unit % 4;
#pragma unroll
  for (int j = 0; j < M; ++j) old[j * PART] = w[j * N];
  const number above = m[WEIGHTS[2] + unit];
  number out[4], h[M][4], d = 0, here = 0;
  Batch g[M + 2];
  sums_by_plan<BatchPlan, M + 2>(g, t, [&](int i, int k, Batch& partial) {
    if (k == 0) {
      if (i % 4 == 0) {
        load<4>(m + OUT + i, out);
#pragma unroll
        for (int j = 0; j < M; ++j) load<4>(m + H0 + j * ROW + i, h[j]);
      }
      Unit back;
      back.product(above, out[i % 4], t);
      const number z = of_unit[4 * i];
      d = activation_backward(back.result(t), z, t);
      here = activation(z, t);
      of_unit[4 * i] = d;
    }
    if (k < M) {
      partial.product(h[k][i % 4], d, t);
    } else if (k == M) {
      partial.term(d, t);
    } else {
      partial.product(here, out[i % 4], t);
    }
  });
#pragma unroll
  for (int j = 0; j < M; ++j) update(m, WEIGHTS[1] + j * N + unit, g[j].result(t), rate, t);
  update(m, BIASES + UNIT[1] + unit, g[M].result(t), rate, t);
  update(m, WEIGHTS[2] + unit, g[M + 1].result(t), rate, t);
}

// A bias, whose gradient is the sum of a unit's deltas.
__device__ __forceinline__ void update_bias(number* m, const number* d, u32 unit, number rate,
                                            RoundingKey t) {
  number some[4];
  Batch g[1];
  sums_by_plan<BatchPlan, 1>(g, t, [&](int i, int, Batch& partial) {
    if (i % 4 == 0) load<4>(d + i, some);
    partial.term(some[i % 4], t);
  });
  update(m, BIASES + unit, g[0].result(t), rate, t);
}

// A weight of the first layer.
__device__ __forceinline__ void update_first(number* m, u32 q, number rate, RoundingKey t) {
  const u32 j = q / EACH, unit = j / INPUTS * EACH + q % EACH;
  const u32 examples = reinterpret_cast<const u32*>(m + MASKS)[j];
  if (SPARSE && examples == 0) return;
  const number* d = m + D0 + unit * ROW;
  number some[4];
  Batch g[1];
  sums_by_plan<BatchPlan, 1>(g, t, [&](int i, int, Batch& partial) {
    if (i % 4 == 0) load<4>(d + i, some);
    if (examples >> i & 1) partial.term(some[i % 4], t);
  });
  update(m, q, g[0].result(t), rate, t);
}

// `steps` mini-batches of each model (blockIdx.x), the first of them step `step`; the arguments are
// those of train_small.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    train_wide(number* memory, const u32* rows, u64 stride, u64 first, const number* rates,
               u32 many, u32 steps, const u64* keys, const u32* orders, u64 step) {
  extern __shared__ float4 shared[];
  number* m = reinterpret_cast<number*>(shared);
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  number* mine = memory + (u64)blockIdx.x * NUMBERS;
  for (u32 k = threadIdx.x; k < NUMBERS; k += 32 * WARPS) m[k] = mine[k];
  Incoming incoming(rows, stride, first, orders, rates, many, step);
  incoming.fetch(0, lane);
  RoundingKey t{keys[2 * blockIdx.x], keys[2 * blockIdx.x + 1], step};
  __syncthreads();
  for (u32 s = 0; s < steps; ++s, ++t.step) {
    const Incoming now = incoming;
    const number rate = now.rate;
    if (s + 1 < steps) incoming.fetch(s + 1, lane);
    if (warp < SETS) first_layer(m, now.example[0], lane, warp, t);
    __syncthreads();
    number h[M];
#pragma unroll
    for (int j = 0; j < M; ++j) h[j] = m[H0 + j * ROW + lane];
    Unit sum;
    for (u32 begin = 0; begin < N / 8 + EIGHTS; begin += EIGHTS) {
      const u32 end = min(begin + EIGHTS, (u32)N / 8);
      if (warp % 4 > 0) {
#pragma unroll 1
        for (u32 q = begin + warp - 1 - warp / 4; q < end; q += BESIDE) {
          forward_eight(m, h, lane, q, t);
        }
      } else if (warp == 0 && begin > 0) {
        forward_chain(m, lane, begin - EIGHTS, min(begin, (u32)N / 8), sum, t);
      }
      __syncthreads();
    }
    if (warp == 0) {
      const number z = op_add(sum.result(t), m[BIASES + UNIT[2]], t);
      m[OUT + lane] = output_delta(z, now.label(), t);
    }
    __syncthreads();
    Unit back[PAIR];
    for (u32 part = 0; part * PART < N + PART; ++part) {
      number* old = m + OLD + (part & 1) * M * PART;
      if (warp >= CHAINS) {
        const u32 here = (warp - CHAINS) * 32 + lane, p = part * PART + here;
        if (p < N) descend_unit(m, old + here, UNIT_CHAIN > 0 ? p : N - 1 - p, rate, t);
      } else if (part > 0) {
        const number* before = m + OLD + (part - 1 & 1) * M * PART + warp * PAIR * PART;
        const u32 end = part * (PART / 8);
        backward_chain(m, before, lane, end - PART / 8, min(end, (u32)N / 8), back, t);
      }
      __syncthreads();
    }
    if (warp < CHAINS) {
#pragma unroll
      for (int j = 0; j < PAIR; ++j) {
        const u32 at = (warp * PAIR + j) * ROW + lane;
        const number d = back[j].result(t);
        m[D0 + at] = ACTIVE ? activation_backward(d, m[Z0 + at], t) : d;
      }
    } else if (warp == CHAINS && lane == 0) {
      update_bias(m, m + OUT, UNIT[2], rate, t);
    }
    __syncthreads();
    for (u32 q = threadIdx.x; q < FAN[0] * EACH + (BIASED ? M : 0); q += 32 * WARPS) {
      if (q < FAN[0] * EACH) {
        update_first(m, q, rate, t);
      } else {
        update_bias(m, m + D0 + (q - FAN[0] * EACH) * ROW, q - FAN[0] * EACH, rate, t);
      }
    }
    __syncthreads();
  }
  for (u32 k = threadIdx.x; k < NUMBERS; k += 32 * WARPS) mine[k] = m[k];
}
