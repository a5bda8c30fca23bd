// Backward through a large layer and the descent of its weights in one kernel, which reads them once: a
// block has some of the inputs, whose weights no other block needs, and goes through the outputs.
//
// For float32, mini-batches of EXAMPLES, whole numbers of INPUTS and OUTPUTS, and sums that are chains.

constexpr int INPUTS = 128, OUTPUTS = 16, EXAMPLES = 32, PITCH = EXAMPLES + 4;
constexpr int FOURS = EXAMPLES / 4;
// inputs of a thread's weights, which are of four outputs, and of its deltas, of four examples
constexpr int HERE = INPUTS * OUTPUTS / 4 / TILE_THREADS, BELOW = INPUTS * FOURS / TILE_THREADS;

// In shared memory: weights and deltas of OUTPUTS outputs, activations of all inputs of the block.
struct Owned {
  number w[OUTPUTS][INPUTS + 4], d[OUTPUTS][PITCH], h[INPUTS][PITCH];
};

// Down: of the sums over the outputs; Sum: of those over the mini-batch.
template <class Down, class Sum>
__device__ __forceinline__ void backward_descend_layer(Owned& shared, u32 k, number* memory,
                                                       const number* z, const number* h, number* d,
                                                       RoundingKey t, number rate) {
  const Layer layer = layers[k];
  const u32 parts = layer.fan_out / OUTPUTS, row = threadIdx.x / FOURS, four = threadIdx.x % FOURS * 4;
  const u64 above = ((u64)blockIdx.y * UNITS + layer.units) * EXAMPLES;
  const u64 below = above - ((u64)layer.fan_in - blockIdx.x * INPUTS) * EXAMPLES;
  const u32 input = threadIdx.x / (OUTPUTS / 4) * HERE, output = threadIdx.x % (OUTPUTS / 4) * 4;
  const u32 x = threadIdx.x / FOURS * BELOW, y = threadIdx.x % FOURS * 4;
  number* mine = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS + layer.weights +
                 (u64)(blockIdx.x * INPUTS + input) * layer.fan_out + output;
  const auto first = [&](u32 part) { return (UNIT_CHAIN > 0 ? part : parts - 1 - part) * OUTPUTS; };
  number next[HERE][4], delta[4];
  const auto fetch = [&](u32 from) {
#pragma unroll
    for (int c = 0; c < HERE; ++c) load<4>(mine + from + c * layer.fan_out, next[c]);
    load<4>(d + above + (from + row) * EXAMPLES + four, delta);
  };
#pragma unroll
  for (int j = 0; j < INPUTS; j += TILE_THREADS / FOURS) {
    number some[4];
    load<4>(h + below + (j + row) * EXAMPLES + four, some);
    store<4>(&shared.h[j + row][four], some);
  }
  Down sums[BELOW][4];
  fetch(first(0));
#pragma unroll 1
  for (u32 part = 0; part < parts; ++part) {
    number v[HERE][1 + STATES][4];
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      number column[HERE];
#pragma unroll
      for (int c = 0; c < HERE; ++c) column[c] = v[c][0][r] = next[c][r];
      store(&shared.w[output + r][input], column);
    }
    store<4>(&shared.d[row][four], delta);
    __syncthreads();
    number* here = mine + first(part);
#pragma unroll
    for (int c = 0; c < HERE; ++c) {
#pragma unroll
      for (int s = 1; s <= STATES; ++s) {
        load<4>(here + c * layer.fan_out + s * PARAMETERS, v[c][s]);
      }
    }
    if (part + 1 < parts) fetch(first(part + 1));
    // what comes next is on its way while products are joined; without __syncwarp() the compiler would load
    // it later
    number of_w[2][BELOW], of_delta[2][4];
    const auto take_output = [&](int e) {
      const int u = UNIT_CHAIN > 0 ? e : OUTPUTS - 1 - e;
      load<BELOW>(&shared.w[u][x], of_w[e % 2]);
      load<4>(&shared.d[u][y], of_delta[e % 2]);
    };
    take_output(0);
#pragma unroll
    for (int e = 0; e < OUTPUTS; ++e) {
      if (e + 1 < OUTPUTS) take_output(e + 1);
      __syncwarp();
#pragma unroll
      for (int r = 0; r < BELOW; ++r) {
#pragma unroll
        for (int c = 0; c < 4; ++c) sums[r][c].product(of_w[e % 2][r], of_delta[e % 2][c], t);
      }
    }
    Sum g[HERE][4];
    number of_h[2][HERE][4], of_d[2][4][4];
    const auto take_four = [&](int e) {
      const int i = BATCH_CHAIN > 0 ? 4 * e : EXAMPLES - 4 - 4 * e;
#pragma unroll
      for (int c = 0; c < HERE; ++c) load<4>(&shared.h[input + c][i], of_h[e % 2][c]);
#pragma unroll
      for (int r = 0; r < 4; ++r) load<4>(&shared.d[output + r][i], of_d[e % 2][r]);
    };
    take_four(0);
#pragma unroll
    for (int e = 0; e < FOURS; ++e) {
      if (e + 1 < FOURS) take_four(e + 1);
      __syncwarp();
#pragma unroll
      for (int f = 0; f < 4; ++f) {
        const int at = BATCH_CHAIN > 0 ? f : 3 - f;
#pragma unroll
        for (int c = 0; c < HERE; ++c) {
#pragma unroll
          for (int r = 0; r < 4; ++r) g[c][r].product(of_h[e % 2][c][at], of_d[e % 2][r][at], t);
        }
      }
    }
#pragma unroll
    for (int c = 0; c < HERE; ++c) {
#pragma unroll
      for (int r = 0; r < 4; ++r) update_values(v[c], r, g[c][r].result(t), rate, t);
#pragma unroll
      for (int s = 0; s <= STATES; ++s) {
        store<4>(here + c * layer.fan_out + s * PARAMETERS, v[c][s]);
      }
    }
    __syncthreads();
  }
  const bool active = layers[k - 1].active;
#pragma unroll
  for (int r = 0; r < BELOW; ++r) {
    const u64 at = below + (x + r) * EXAMPLES + y;
    number of_z[4], found[4];
    load<4>(z + at, of_z);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const number sum = sums[r][c].result(t);
      found[c] = active ? activation_backward(sum, of_z[c], t) : sum;
    }
    store<4>(d + at, found);
  }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    backward_descend(u32 k, number* memory, const number* z, const number* h, number* d,
                     const u64* keys, u64 step, const number* rates, u32 rate) {
  __shared__ __align__(16) Owned shared;
  const RoundingKey t = rounding_key(keys, step);
  with_backward(k, [&](auto down) {
    with_batch(k, [&](auto empty) {
      if constexpr (!decltype(down)::EXACT && !decltype(empty)::EXACT) {
        backward_descend_layer<decltype(down), decltype(empty)>(shared, k, memory, z, h, d, t,
                                                                rates[rate]);
      }
    });
  });
}
