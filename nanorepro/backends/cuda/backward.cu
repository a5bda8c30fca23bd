// The way back through models of any shape, behind forward.cu: a launch for each layer's equation,
// all models in it (blockIdx.y).

// delta = (sigma(z) - y) / s of the output.
extern "C" __global__ void output(const u32* rows, u64 row_stride, u64 first, u32 words,
                                  const number* z, number* d, u32 n, const u64* keys, u64 step) {
  const RoundingKey t = rounding_key(keys, step);
  for (u32 i = THREAD; i < n; i += THREADS) {
    const u64 at = ((u64)blockIdx.y * UNITS + UNITS - 1) * n + i;
    const u32 y = rows[blockIdx.y * row_stride + (first + i) * (words + 1) + words];
    d[at] = output_delta(z[at], (number)y, t);
  }
}

// delta of the layer below layer k, by the weights as they are before the step.
extern "C" __global__ void backward(u32 k, const number* memory, const number* z, number* d, u32 n,
                                    const int2* plans, u32 count, u32 index, u32 length, u32 slots,
                                    Unit* spare, const u64* keys, u64 step) {
  const Layer layer = layers[k];
  const bool active = layers[k - 1].active;
  const Plan plan = plan_of(plans, count, index, length, slots);
  const RoundingKey t = rounding_key(keys, step);
  const number* w = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS + layer.weights;
  const u64 above = ((u64)blockIdx.y * UNITS + layer.units) * n;
  const u64 below = above - (u64)layer.fan_in * n;
  for (u64 q = THREAD; q < (u64)layer.fan_in * n; q += THREADS) {
    const u32 j = (u32)(q / n), i = (u32)(q % n);
    const number sum = sum_by_plan(plan, spare, t, [&](Unit& partial, u32 u) {
      partial.product(w[(u64)j * layer.fan_out + u], d[above + (u64)u * n + i], t);
    });
    d[below + q] = active ? activation_backward(sum, z[below + q], t) : sum;
  }
}

// The gradient of each weight and bias of layer k, from the one numbered `from` on, and its update.
extern "C" __global__ void descend(u32 k, number* memory, const u32* rows, u64 row_stride,
                                   u64 first, u32 words, const number* h, const number* d, u32 n,
                                   const int2* plans, u32 count, u32 index, u32 length, u32 slots,
                                   Batch* spare, const u64* keys, u64 step, const number* rates,
                                   u32 rate, u32 from) {
  const Layer layer = layers[k];
  const u32 inputs = layer.fan_in / layer.sets, row = layer.fan_out / layer.sets;
  const u32 weights = layer.fan_in * row;
  const Plan plan = plan_of(plans, count, index, length, slots);
  const RoundingKey t = rounding_key(keys, step);
  number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const number* delta = d + ((u64)blockIdx.y * UNITS + layer.units) * n;
  const number* below = h + ((u64)blockIdx.y * UNITS + layer.units - layer.fan_in) * n;
  const u32* examples = rows + blockIdx.y * row_stride + first * (words + 1);
  const u32 all = weights + (layer.biases ? layer.fan_out : 0);
  for (u32 q = from + THREAD; q < all; q += THREADS) {
    const u32 j = q / row, u = q < weights ? j / inputs * row * (k == 0) + q % row : q - weights;
    const number* of_unit = delta + (u64)u * n;
    const number g = sum_by_plan(plan, spare, t, [&](Batch& partial, u32 i) {
      if (q >= weights || (k == 0 && has(examples + (u64)i * (words + 1), j))) {
        partial.term(of_unit[i], t);
      } else if (k > 0) {
        partial.product(below[(u64)j * n + i], of_unit[i], t);
      }
    });
    update(m, q < weights ? layer.weights + q : layer.biases + u, g, rates[rate], t);
  }
}
