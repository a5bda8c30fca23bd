// The backward pass of models of any shape, behind forward.cu: a launch for each layer's deltas, then
// one for all gradients, all models in it (blockIdx.y).
//
//   masks (models, 32): which examples have each feature, where a word holds all of both
//
// In front of this text: SPARSE, whether a weight without a gradient stays as it is.

__device__ inline bool masked(u32 words, u32 n) {
  return BATCH_CHAIN && !REAL && words == 1 && n <= 32;
}

// delta = (sigma(z) - y) / s of the output; and the masks of the features.
__device__ inline void output_layer(const u32* rows, u64 row_stride, u64 first, u32 words,
                                    const number* z, number* d, u32* masks, u32 n, RoundingKey t) {
  if (masked(words, n)) {
    const u32* examples = rows + blockIdx.y * row_stride + first * 2;
    for (u32 j = THREAD; j < 32; j += THREADS) {
      u32 mask = 0;
#pragma unroll 8
      for (u32 i = 0; i < n; ++i) mask |= (examples[2 * i] >> j & 1) << i;
      masks[blockIdx.y * 32 + j] = mask;
    }
  }
  for (u32 i = THREAD; i < n; i += THREADS) {
    const u64 at = ((u64)blockIdx.y * UNITS + UNITS - 1) * n + i;
    const u32 y = rows[blockIdx.y * row_stride + (first + i) * (words + 1) + words];
    d[at] = output_delta(z[at], (number)y, t);
  }
}

extern "C" __global__ void output(const u32* rows, u64 row_stride, u64 first, u32 words,
                                  const number* z, number* d, u32* masks, u32 n, const u64* keys,
                                  u64 step) {
  output_layer(rows, row_stride, first, words, z, d, masks, n, rounding_key(keys, step));
}

// delta of the layer below layer k, by the weights as they are before the step.
template <class Sum>
__device__ inline void backward_layer(u32 k, const number* memory, const number* z, number* d,
                                      u32 n, const Plan& plan, UnitRoom* spare, RoundingKey t) {
  const Layer layer = layers[k];
  const bool active = layers[k - 1].active;
  const number* w = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS + layer.weights;
  const u64 above = ((u64)blockIdx.y * UNITS + layer.units) * n;
  const u64 below = above - (u64)layer.fan_in * n;
  for (u64 q = THREAD; q < (u64)layer.fan_in * n; q += THREADS) {
    const u32 j = (u32)(q / n), i = (u32)(q % n);
    const number sum = sum_by_plan<UNIT_CHAIN, Sum>(plan, spare, t, [&](Sum& partial, u32 u) {
      partial.product(w[(u64)j * layer.fan_out + u], d[above + (u64)u * n + i], t);
    });
    d[below + q] = active ? activation_backward(sum, z[below + q], t) : sum;
  }
}

extern "C" __global__ void backward(u32 k, const number* memory, const number* z, number* d, u32 n,
                                    const int2* plans, u32 count, u32 index, u32 length, u32 slots,
                                    UnitRoom* spare, const u64* keys, u64 step) {
  with_backward(k, [&](auto empty) {
    backward_layer<decltype(empty)>(k, memory, z, d, n,
                                    plan_of(plans, count, index, length, slots), spare,
                                    rounding_key(keys, step));
  });
}

// The sum of the deltas of one unit over the examples of a mask: a chain.
template <class Sum>
__device__ inline number masked_sum(const number* deltas, u32 mask, RoundingKey t) {
  Sum sum;
  for (u32 rest = mask; rest;) {
    number some[4];
    bool there[4];
#pragma unroll
    for (int r = 0; r < 4; ++r) {  // all are loaded before any is added
      there[r] = rest != 0;
      const u32 i = BATCH_CHAIN > 0 ? __ffs((int)rest) - 1 : 31 - __clz((int)rest);
      some[r] = there[r] ? deltas[i] : (number)0;
      rest &= there[r] ? ~(1u << i) : 0u;
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      if (there[r]) sum.term(some[r], t);
    }
  }
  return sum.result(t);
}

// The gradient of each weight and bias of layer k, from the one numbered `from` on, and its update.
template <class Sum>
__device__ inline void descend_layer(u32 k, number* memory, const u32* rows, u64 row_stride,
                                     u64 first, u32 words, const number* h, const number* d,
                                     const u32* masks, u32 n, const Plan& plan, BatchRoom* spare,
                                     RoundingKey t, number rate, u32 from) {
  const Layer layer = layers[k];
  const u32 inputs = layer.fan_in / layer.sets, row = layer.fan_out / layer.sets;
  const u32 weights = layer.fan_in * row;
  number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const number* delta = d + ((u64)blockIdx.y * UNITS + layer.units) * n;
  const number* below = h + ((u64)blockIdx.y * UNITS + layer.units - layer.fan_in) * n;
  const u32* examples = rows + blockIdx.y * row_stride + first * (words + 1);
  const u32 all = weights + (layer.biases ? layer.fan_out : 0);
  for (u32 q = from + THREAD; q < all; q += THREADS) {
    const u32 j = q / row, u = q < weights ? j / inputs * row * (k == 0) + q % row : q - weights;
    const number* of_unit = delta + (u64)u * n;
    const bool by_mask = masked(words, n) && (k == 0 || q >= weights);
    u32 mask = 0;
    if (by_mask) {
      mask = q < weights ? masks[blockIdx.y * 32 + j] : 0xFFFFFFFFu >> (32 - n);
      if (SPARSE && mask == 0) continue;
    }
    number* mine = m + (q < weights ? layer.weights + q : layer.biases + u);
    number v[1 + STATES][1];  // on its way while the gradient is summed
#pragma unroll
    for (int s = 0; s <= STATES; ++s) v[s][0] = mine[s * PARAMETERS];
    number g;
    if (by_mask) {
      g = masked_sum<Sum>(of_unit, mask, t);
    } else {
      g = sum_by_plan<BATCH_CHAIN, Sum>(plan, spare, t, [&](Sum& partial, u32 i) {
        const u32* example = examples + (u64)i * (words + 1);
        if (q >= weights || (k == 0 && !REAL && has(example, j))) {
          partial.term(of_unit[i], t);
        } else if (k == 0 && REAL) {
          partial.product(real_feature(example, j), of_unit[i], t);
        } else if (k > 0) {
          partial.product(below[(u64)j * n + i], of_unit[i], t);
        }
      });
    }
    update_values(v, 0, g, rate, t);
#pragma unroll
    for (int s = 0; s <= STATES; ++s) mine[s * PARAMETERS] = v[s][0];
  }
}

// All gradients but those of the first weights of each layer, `from` of which others take.
extern "C" __global__ void descend(number* memory, const u32* rows, u64 row_stride, u64 first,
                                   u32 words, const number* h, const number* d, const u32* masks,
                                   u32 n, const int2* plans, u32 count, u32 index, u32 length,
                                   u32 slots, BatchRoom* spare, const u64* keys, u64 step,
                                   const number* rates, u32 rate, const u32* from) {
  const Plan plan = plan_of(plans, count, index, length, slots);
  for (u32 k = 0; k < sizeof(layers) / sizeof(Layer); ++k) {
    with_batch(k, [&](auto empty) {
      descend_layer<decltype(empty)>(k, memory, rows, row_stride, first, words, h, d, masks, n, plan,
                                     spare, rounding_key(keys, step), rates[rate], from[k]);
    });
  }
}
