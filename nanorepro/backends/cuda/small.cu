// Training of small models, a warp each: up to 32 features and units a layer, mini-batches of up to
// 32 examples, fixed trees.  All steps of a launch in one kernel; what a model is lies in shared memory.
//
//   forward, backward    lane = example, at its place in the leaf order; units in registers
//   gradients, updates   lane = weight; activations and deltas of all examples in shared memory
//
// In front of this text stand batch.cu, and UnitPlan<n>, a tree's instructions.

// activations and deltas of all units, and real features
constexpr int H = NUMBERS, D = H + UNITS * ROW, X = D + UNITS * ROW;

typedef ForwardSum<0>::Type FirstSum;

// The features that a mini-batch has: lane r holds the r-th, and which of the examples have it.
struct Present { u32 count, feature, examples; };

// All features as if they were present.
__device__ __forceinline__ Present all_features(u32 x, u32 lane) {
  Present found{FAN[0], lane, 0};
#pragma unroll
  for (int j = 0; j < FAN[0]; ++j) {
    const u32 examples = __ballot_sync(ALL_LANES, x >> j & 1);
    if (lane == j) found.examples = examples;
  }
  return found;
}

// The sums of the first layer over real features, which stay in shared memory.
__device__ __forceinline__ void first_products(number* m, const Incoming& incoming, u32 lane,
                                               RoundingKey t, FirstSum (&sums)[FAN[1]]) {
  constexpr int M = FAN[1];
#pragma unroll
  for (int j = 0; j < FAN[0]; ++j) {
    m[X + j * ROW + lane] = (number)from_pattern(incoming.example[j]);
  }
  sums_by_plan<UnitPlan<FAN[0]>, M>(sums, t, [&](int j, int u, FirstSum& partial) {
    partial.product((number)from_pattern(incoming.example[j]), m[j * M + u], t);
  });
}

// The sums of the first layer; chains pass over features that no example has.
__device__ __forceinline__ Present first_layer(const number* m, u32 x, u32 lane, RoundingKey t,
                                               FirstSum (&sums)[FAN[1]]) {
  constexpr int M = FAN[1];
  if constexpr (UNIT_CHAIN != 0) {
    Present found{0, 0, 0};
    for (u32 rest = __reduce_or_sync(ALL_LANES, x); rest;) {
      const u32 j = UNIT_CHAIN > 0 ? __ffs((int)rest) - 1 : 31 - __clz((int)rest);
      rest &= ~(1u << j);
      const bool present = x >> j & 1;
      const u32 examples = __ballot_sync(ALL_LANES, present);
      if (lane == found.count) {
        found.feature = j;
        found.examples = examples;
      }
      ++found.count;
      number row[M];
      load<M>(m + j * M, row);
#pragma unroll
      for (int u = 0; u < M; ++u) {
        if (present) sums[u].term(row[u], t);
      }
    }
    return found;
  } else {
    sums_by_plan<UnitPlan<FAN[0]>, M>(sums, t, [&](int j, int u, FirstSum& partial) {
      if (x >> j & 1) partial.term(m[j * M + u], t);
    });
    return all_features(x, lane);
  }
}

// From the sums of layer K up to the output, and its deltas back down; both stay in shared memory.
template <int K>
__device__ __forceinline__ void pass(number* m, u32 lane,
                                     const typename ForwardSum<K>::Type (&sums)[FAN[K + 1]],
                                     number label, RoundingKey t) {
  constexpr int N = FAN[K + 1];
  number z[N], d[N];
#pragma unroll
  for (int u = 0; u < N; ++u) z[u] = op_add(sums[u].result(t), m[BIASES + UNIT[K] + u], t);
  if constexpr (K == LAYERS - 1) {
    d[0] = output_delta(z[0], label, t);
  } else {
    typedef typename ForwardSum<K + 1>::Type Up;
    typedef typename BackwardSum<K + 1>::Type Down;
    constexpr int M = FAN[K + 2];
    const number* w = m + WEIGHTS[K + 1];
    number h[N];
    Up above[M];
#pragma unroll
    for (int j = 0; j < N; ++j) {
      h[j] = activation(z[j], t);
      m[H + (UNIT[K] + j) * ROW + lane] = h[j];
    }
    sums_by_plan<UnitPlan<N>, M>(above, t, [&](int j, int u, Up& partial) {
      partial.product(h[j], w[j * M + u], t);
    });
    pass<K + 1>(m, lane, above, label, t);
    number delta[M];
#pragma unroll
    for (int u = 0; u < M; ++u) delta[u] = m[D + (UNIT[K + 1] + u) * ROW + lane];
#pragma unroll
    for (int j = 0; j < N; ++j) {
      Down back[1];
      number row[M];
      load<M>(w + j * M, row);
      sums_by_plan<UnitPlan<M>, 1>(back, t, [&](int u, int, Down& partial) {
        partial.product(row[u], delta[u], t);
      });
      d[j] = activation_backward(back[0].result(t), z[j], t);
    }
  }
#pragma unroll
  for (int u = 0; u < N; ++u) m[D + (UNIT[K] + u) * ROW + lane] = d[u];
}

// Weights of the layers K and up, R of one input side by side; inputs of the first layer are real.
template <int K> __device__ __forceinline__ void update_weights(number* m, u32 lane, number rate,
                                                                RoundingKey t) {
  if constexpr (K < LAYERS) {
    typedef typename BatchSum<K>::Type Sum;
    constexpr int INPUTS = K == 0 ? X : H + UNIT[K == 0 ? 0 : K - 1] * ROW;
    constexpr int M = FAN[K + 1], ALL = FAN[K] * M, EACH = (ALL + 31) / 32;
    constexpr int R = M % EACH == 0 ? EACH : 1;
#pragma unroll 1
    for (int first = 0; first < ALL; first += 32 * R) {
      const int q = first + lane * R;
      if (ALL % (32 * R) == 0 || q < ALL) {
        const number* h = m + INPUTS + q / M * ROW;
        const number* d = m + D + (UNIT[K] + q % M) * ROW;
        number a[4], b[R][4];
        Sum g[R];
        sums_by_plan<BatchPlan, R>(g, t, [&](int i, int r, Sum& partial) {
          if (i % 4 == 0) {
            if (r == 0) load<4>(h + i, a);
            load<4>(d + r * ROW + i, b[r]);
          }
          partial.product(a[i % 4], b[r][i % 4], t);
        });
#pragma unroll
        for (int r = 0; r < R; ++r) update(m, WEIGHTS[K] + q + r, g[r].result(t), rate, t);
      }
    }
    update_weights<K + 1>(m, lane, rate, t);
  }
}

template <class A, class B> struct Same { static constexpr bool VALUE = false; };
template <class A> struct Same<A, A> { static constexpr bool VALUE = true; };

// The first layer above K whose sums over the mini-batch have another accumulator.
template <int K> __device__ constexpr int next_kind() {
  if constexpr (K + 1 < LAYERS) {
    typedef typename BatchSum<K>::Type Here;
    if constexpr (Same<Here, typename BatchSum<K + 1>::Type>::VALUE) return next_kind<K + 1>();
  }
  return K + 1;
}

// Biases of the layers K and up: those of all layers side by side whose accumulator is one.
template <int K> __device__ __forceinline__ void update_biases(number* m, u32 lane, number rate,
                                                               RoundingKey t) {
  if constexpr (K < LAYERS) {
    typedef typename BatchSum<K>::Type Sum;
    constexpr int NEXT = next_kind<K>();
#pragma unroll 1
    for (u32 q = UNIT[K] + lane; q < UNIT[NEXT - 1] + FAN[NEXT]; q += 32) {
      const number* d = m + D + q * ROW;
      number b[4];
      Sum g[1];
      sums_by_plan<BatchPlan, 1>(g, t, [&](int i, int, Sum& partial) {
        if (i % 4 == 0) load<4>(d + i, b);
        partial.term(b[i % 4], t);
      });
      update(m, BIASES + q, g[0].result(t), rate, t);
    }
    update_biases<NEXT>(m, lane, rate, t);
  }
}

__device__ constexpr int power_of_two(int n) { return n <= 1 ? 1 : 2 * power_of_two((n + 1) / 2); }

// Weights of the first layer: some lanes a feature, R units each.
__device__ __forceinline__ void update_first(number* m, u32 lane, Present present, number rate,
                                             RoundingKey t) {
  typedef BatchSum<0>::Type Sum;
  constexpr int M = FAN[1], R = M % 4 == 0 ? 4 : 1;
  constexpr int LANES = power_of_two(M / R), FEATURES = 32 / LANES;
  const u32 part = lane / LANES, u = lane % LANES * R;
#pragma unroll 1
  for (u32 first = 0; first < present.count; first += FEATURES) {
    const u32 feature = __shfl_sync(ALL_LANES, present.feature, first + part & 31);
    const u32 examples = __shfl_sync(ALL_LANES, present.examples, first + part & 31);
    if (first + part < present.count && u < M) {
      const number* d = m + D + u * ROW;
      number b[R][4];
      Sum g[R];
      sums_by_plan<BatchPlan, R>(g, t, [&](int i, int r, Sum& partial) {
        if (i % 4 == 0) load<4>(d + r * ROW + i, b[r]);
        if (examples >> i & 1) partial.term(b[r][i % 4], t);
      });
#pragma unroll
      for (int r = 0; r < R; ++r) update(m, feature * M + u + r, g[r].result(t), rate, t);
    }
  }
}

// `steps` mini-batches of each model (blockIdx.x), the first of them step `step`.
//
//   memory (models, 1 + STATES, PARAMETERS); rows, stride, first, rates, many: see Incoming
extern "C" __global__ void __launch_bounds__(32)
    train_small(number* memory, const u32* rows, u64 stride, u64 first, const number* rates,
                u32 many, u32 steps, const u64* keys, const u32* orders, u64 step) {
  extern __shared__ float4 shared[];
  number* m = reinterpret_cast<number*>(shared);
  const u32 lane = threadIdx.x;
  number* mine = memory + (u64)blockIdx.x * NUMBERS;
  for (u32 k = lane; k < NUMBERS; k += 32) m[k] = mine[k];
  Incoming incoming(rows, stride, first, orders, rates, many, step);
  incoming.fetch(0, lane);
  RoundingKey t{keys[2 * blockIdx.x], keys[2 * blockIdx.x + 1], step};
  __syncwarp();
  for (u32 s = 0; s < steps; ++s, ++t.step) {
    const Incoming now = incoming;
    if (s + 1 < steps) incoming.fetch(s + 1, lane);
    FirstSum sums[FAN[1]];
    Present present{0, 0, 0};
    if constexpr (REAL) {
      first_products(m, now, lane, t, sums);
    } else {
      present = first_layer(m, now.example[0], lane, t, sums);
    }
    pass<0>(m, lane, sums, now.label(), t);
    __syncwarp();
    update_weights<REAL ? 0 : 1>(m, lane, now.rate, t);
    update_biases<0>(m, lane, now.rate, t);
    if constexpr (!REAL) {
      if (!SPARSE && UNIT_CHAIN != 0) present = all_features(now.example[0], lane);
      update_first(m, lane, present, now.rate, t);
    }
    __syncwarp();
  }
  for (u32 k = lane; k < NUMBERS; k += 32) mine[k] = m[k];
}
