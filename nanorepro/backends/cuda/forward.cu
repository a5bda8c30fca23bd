// Forward through models of any shape: a launch a layer, all models in it (blockIdx.y).
// docs/arithmetic.md, "One step", has the equations.
//
//   memory  (models, 1 + STATES, PARAMETERS): weights and biases, then the optimizer's states
//   rows    features and the label of each example, words + 1 numbers: packed ones, or REAL ones, each
//           a float32; those of the models are row_stride numbers apart, the `first` example is where
//           the n begin
//   z, h, d (models, UNITS, n): sums, activations and deltas of n examples
//   plans   (count, length) of each model, or one of all if count is 0: numerics/trees.py
//   spare   room for the partial sums of plans that hold several: (slots, threads)
//   keys    (models, 2): of stochastic rounding
//
// In front of this text: `layers`, the table of the layers; UNIT_CHAIN and BATCH_CHAIN, 1 if the sums
// over units and over the mini-batch are chains, -1 if from the last term on, else 0 (exact sums, whose
// order is all the same, go by the plan that they are given); REAL, whether the features are real;
// FOURS_FIRST, whether the first layer goes by four units at a time.

struct Plan {
  const int2* rows;
  u32 length, slots;
};

__device__ inline Plan plan_of(const int2* plans, u32 count, u32 index, u32 length, u32 slots) {
  const u64 which = count ? (u64)blockIdx.y * count + index : 0;
  return Plan{plans + which * length, length, slots};
}

// The sum of the terms that join(partial, i) adds to a partial sum, in the order of a plan.
// CHAIN says that it is a chain, as UNIT_CHAIN does.
template <int CHAIN, class Sum, class Room, class Join>
__device__ inline number sum_by_plan(const Plan& plan, Room* spare, RoundingKey t, Join join) {
  if (CHAIN && !Sum::EXACT) {
    Sum sum;
#pragma unroll 4
    for (u32 k = 0; k < plan.length; ++k) join(sum, CHAIN > 0 ? k : plan.length - 1 - k);
    return sum.result(t);
  }
  if (plan.slots == 1) {
    Sum sum;
    for (u32 row = 0; row < plan.length; ++row) join(sum, (u32)plan.rows[row].y);
    return sum.result(t);
  }
  const u64 threads = (u64)gridDim.x * gridDim.y * blockDim.x;
  Room* mine = spare + ((u64)blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
  const auto at = [&](u32 slot) -> Sum& { return reinterpret_cast<Sum&>(mine[slot * threads]); };
  for (u32 slot = 0; slot < plan.slots; ++slot) at(slot) = Sum();
  for (u32 row = 0; row < plan.length; ++row) {
    const int2 next = plan.rows[row];
    Sum& sum = at(next.x);
    if (next.y >= 0) {
      join(sum, (u32)next.y);
    } else {
      Sum& other = at(~next.y);
      sum.merge(other, t);
      other = Sum();
    }
  }
  return at(0).result(t);
}

__device__ inline RoundingKey rounding_key(const u64* keys, u64 step) {
  return RoundingKey{keys[2 * blockIdx.y], keys[2 * blockIdx.y + 1], step};
}

__device__ inline bool has(const u32* example, u32 feature) {
  return example[feature >> 5] >> (feature & 31) & 1;
}

__device__ inline number real_feature(const u32* example, u32 feature) {
  return (number)from_pattern(example[feature]);
}

#define THREAD (blockIdx.x * blockDim.x + threadIdx.x)
#define THREADS (gridDim.x * blockDim.x)

// z = sum + b, h = A(z) of unit u of a layer and example i, from their sum.
__device__ inline void put_unit(const Layer& layer, const number* w, number* z, number* h, u32 n,
                                u32 u, u32 i, number sum, RoundingKey t) {
  if (layer.biases) sum = op_add(sum, w[layer.biases + u], t);
  const u64 at = ((u64)blockIdx.y * UNITS + layer.units + u) * n + i;
  z[at] = sum;
  h[at] = layer.active ? activation(sum, t) : sum;
}

// The first layer by chains of the features that are present, where a word holds them all: four units
// and one example a thread.
template <class Sum>
__device__ inline void forward_fours(const number* w, const u32* examples, number* z, number* h, u32 n,
                                     RoundingKey t) {
  const Layer layer = layers[0];
  const u32 inputs = layer.fan_in / layer.sets, row = layer.fan_out / layer.sets;
  for (u32 q = THREAD; q < layer.fan_out / 4 * n; q += THREADS) {
    const u32 u = q / n * 4, i = q % n, set = u / row;
    Sum sums[4];
    for (u32 rest = examples[2 * i] >> set * inputs & (0xFFFFFFFFu >> (32 - inputs)); rest;) {
      const u32 term = UNIT_CHAIN > 0 ? __ffs((int)rest) - 1 : 31 - __clz((int)rest);
      rest &= ~(1u << term);
      number some[4];
      load<4>(w + layer.weights + (set * inputs + term) * row + u % row, some);
#pragma unroll
      for (int r = 0; r < 4; ++r) sums[r].term(some[r], t);
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) put_unit(layer, w, z, h, n, u + r, i, sums[r].result(t), t);
  }
}

// z = sum + b, h = A(z) of layer k.
template <class Sum>
__device__ inline void forward_layer(u32 k, const number* memory, const u32* rows, u64 row_stride,
                                     u64 first, u32 words, number* z, number* h, u32 n,
                                     const Plan& plan, UnitRoom* spare, RoundingKey t) {
  const Layer layer = layers[k];
  const u32 inputs = layer.fan_in / layer.sets, row = layer.fan_out / layer.sets;
  const number* w = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const number* below = h + ((u64)blockIdx.y * UNITS + layer.units - layer.fan_in) * n;
  const u32* examples = rows + blockIdx.y * row_stride + first * (words + 1);
  if (k == 0 && FOURS_FIRST) {
    forward_fours<Sum>(w, examples, z, h, n, t);
    return;
  }
  for (u64 q = THREAD; q < (u64)layer.fan_out * n; q += THREADS) {
    const u32 u = (u32)(q / n), i = (u32)(q % n), set = u / row;
    number sum;
    if (k == 0) {
      const u32* example = examples + (u64)i * (words + 1);
      if (REAL) {
        sum = sum_by_plan<UNIT_CHAIN, Sum>(plan, spare, t, [&](Sum& partial, u32 term) {
          const u32 j = set * inputs + term;
          partial.product(real_feature(example, j), w[layer.weights + j * row + u % row], t);
        });
      } else if (UNIT_CHAIN && words == 1) {  // a chain of the features that are present
        Sum partial;
        for (u32 rest = *example >> set * inputs & (0xFFFFFFFFu >> (32 - inputs)); rest;) {
          const u32 term = UNIT_CHAIN > 0 ? __ffs((int)rest) - 1 : 31 - __clz((int)rest);
          rest &= ~(1u << term);
          partial.term(w[layer.weights + (set * inputs + term) * row + u % row], t);
        }
        sum = partial.result(t);
      } else {
        sum = sum_by_plan<UNIT_CHAIN, Sum>(plan, spare, t, [&](Sum& partial, u32 term) {
          const u32 j = set * inputs + term;
          if (has(example, j)) partial.term(w[layer.weights + j * row + u % row], t);
        });
      }
    } else {
      sum = sum_by_plan<UNIT_CHAIN, Sum>(plan, spare, t, [&](Sum& partial, u32 j) {
        partial.product(below[(u64)j * n + i], w[layer.weights + j * row + u], t);
      });
    }
    put_unit(layer, w, z, h, n, u, i, sum, t);
  }
}

extern "C" __global__ void forward(u32 k, const number* memory, const u32* rows, u64 row_stride,
                                   u64 first, u32 words, number* z, number* h, u32 n,
                                   const int2* plans, u32 count, u32 index, u32 length, u32 slots,
                                   UnitRoom* spare, const u64* keys, u64 step) {
  with_forward(k, [&](auto empty) {
    forward_layer<decltype(empty)>(k, memory, rows, row_stride, first, words, z, h, n,
                                   plan_of(plans, count, index, length, slots), spare,
                                   rounding_key(keys, step));
  });
}

// The logits of n examples, from `first` on of those (models, count) that are asked for.
extern "C" __global__ void collect(const number* z, u32 n, number* logits, u64 first, u64 count) {
  for (u32 i = THREAD; i < n; i += THREADS) {
    logits[blockIdx.y * count + first + i] = z[((u64)blockIdx.y * UNITS + UNITS - 1) * n + i];
  }
}
