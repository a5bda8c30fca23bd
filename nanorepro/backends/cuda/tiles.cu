// The products of large layers whose sums are chains: a block computes a tile of M x N of them, each
// thread R x C of them in registers, term after term, with what the terms need in shared memory.
//
// A chain's terms come in their order, or from the last one on; nothing is summed across threads.

constexpr int TILE_THREADS = 128;

// A matrix (terms, rows): at p[term * of_term + row * of_row], one of which is 1.
struct Matrix {
  const number* p;
  u32 of_term, of_row;
};

// A thread's share of TK terms of T rows, from the global memory into the shared one, in fours.
// ALONG: those of a row lie side by side, else those of a term.
template <int TK, int T, bool ALONG> struct Stage {
  static constexpr int COUNT = TK * T / 4 / TILE_THREADS;
  static_assert(COUNT * 4 * TILE_THREADS == TK * T, "a whole number of fours for each thread");
  number v[COUNT][4];

  static __device__ __forceinline__ u32 term(int e) {
    const u32 q = threadIdx.x + e * TILE_THREADS;
    return ALONG ? q / T * 4 : q / (T / 4);
  }
  static __device__ __forceinline__ u32 row(int e) {
    const u32 q = threadIdx.x + e * TILE_THREADS;
    return ALONG ? q % T : q % (T / 4) * 4;
  }

  // From the k0-th term in the order of the chain and row m0 on, of K and M; `fours`: all begins and ends
  // at multiples of four.
  __device__ __forceinline__ void fetch(Matrix a, u32 k0, u32 K, u32 m0, u32 M, bool reversed,
                                        bool fours) {
#pragma unroll
    for (int e = 0; e < COUNT; ++e) {
      const u32 k = k0 + term(e), m = m0 + row(e);
      if (fours) {
        const u32 first = !reversed ? k : ALONG ? K - 4 - k : K - 1 - k;
        number some[4] = {0, 0, 0, 0};
        if (k < K && m < M) load<4>(a.p + (u64)first * a.of_term + (u64)m * a.of_row, some);
#pragma unroll
        for (int r = 0; r < 4; ++r) v[e][r] = ALONG && reversed ? some[3 - r] : some[r];
      } else {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const u32 kr = ALONG ? k + r : k, mr = ALONG ? m : m + r;
          const u32 at = reversed ? K - 1 - kr : kr;
          const bool there = kr < K && mr < M;
          v[e][r] = there ? a.p[(u64)at * a.of_term + (u64)mr * a.of_row] : (number)0;
        }
      }
    }
  }

  __device__ __forceinline__ void put(number (&into)[TK][T + 4]) const {
#pragma unroll
    for (int e = 0; e < COUNT; ++e) {
      if (ALONG) {
#pragma unroll
        for (int r = 0; r < 4; ++r) into[term(e) + r][row(e)] = v[e][r];
      } else {
        store<4>(&into[term(e)][row(e)], v[e]);
      }
    }
  }
};

// What lies in shared memory: TK terms of a tile of TM x TN sums, of which the next ones are on their
// way.
template <int TM, int TN, int TK> struct Staged {
  number left[TK][TM + 4], right[TK][TN + 4];
};

// M x N sums of K terms a[k, m] * b[k, n]; put(m, n, sums) takes R x C of them, from row m and column n
// on.
template <class Sum, int R, int C, bool A_ALONG, bool B_ALONG, int TM, int TN, int TK, class Put>
__device__ __forceinline__ void tile(Staged<TM, TN, TK>& staged, u32 M, u32 N, u32 K, bool reversed,
                                     RoundingKey t, Matrix a, Matrix b, Put put) {
  static_assert(TM / R * (TN / C) == TILE_THREADS, "a thread for each R x C");
  auto& left = staged.left;
  auto& right = staged.right;
  const u32 tiles = (M + TM - 1) / TM, x = threadIdx.x % (TM / R) * R, y = threadIdx.x / (TM / R) * C;
  const u32 m0 = blockIdx.x % tiles * TM, n0 = blockIdx.x / tiles * TN;
  const bool fours = (M | N | K) % 4 == 0;
  Sum sums[R][C];
  Stage<TK, TM, A_ALONG> of_a;
  Stage<TK, TN, B_ALONG> of_b;
  of_a.fetch(a, 0, K, m0, M, reversed, fours);
  of_b.fetch(b, 0, K, n0, N, reversed, fours);
  const auto term = [&](u32 k) {
    number ra[R], rb[C];
    load<R>(&left[k][x], ra);
    load<C>(&right[k][y], rb);
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) sums[r][c].product(ra[r], rb[c], t);
    }
  };
#pragma unroll 1
  for (u32 k0 = 0; k0 < K; k0 += TK) {
    of_a.put(left);
    of_b.put(right);
    __syncthreads();
    if (k0 + TK < K) {
      of_a.fetch(a, k0 + TK, K, m0, M, reversed, fours);
      of_b.fetch(b, k0 + TK, K, n0, N, reversed, fours);
    }
    if (K - k0 >= TK) {
#pragma unroll 32
      for (u32 k = 0; k < TK; ++k) term(k);
    } else {
#pragma unroll 1
      for (u32 k = 0; k < K - k0; ++k) term(k);
    }
    __syncthreads();
  }
  if (m0 + x >= M || n0 + y >= N) return;
  number found[R][C];
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int c = 0; c < C; ++c) found[r][c] = sums[r][c].result(t);
  }
  put(m0 + x, n0 + y, found);
}

#define LARGE 128, 32, 16, 8, 4  // many units
#define NARROW 4, 32, 128, 1, 1  // a few units, whose sums are long

// forward of layer k > 0: z = sum + b, h = A(z).
template <int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void forward_by_tiles(u32 k, const number* memory, number* z, number* h,
                                                 u32 n, const u64* keys, u64 step) {
  const Layer layer = layers[k];
  const RoundingKey t = rounding_key(keys, step);
  const number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const u64 above = ((u64)blockIdx.y * UNITS + layer.units) * n;
  const number* below = h + above - (u64)layer.fan_in * n;
  __shared__ __align__(16) Staged<TM, TN, TK> staged;
  const auto put = [&](u32 u, u32 i, const number (&sums)[R][C]) {
    number bias[R];
#pragma unroll
    for (int r = 0; r < R; ++r) bias[r] = m[layer.biases + min(u + r, layer.fan_out - 1)];
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
        if (u + r >= layer.fan_out || i + c >= n) continue;
        const number found = op_add(sums[r][c], bias[r], t);
        const u64 at = above + (u64)(u + r) * n + i + c;
        z[at] = found;
        h[at] = layer.active ? activation(found, t) : found;
      }
    }
  };
  with_forward(k, [&](auto empty) {
    if constexpr (!decltype(empty)::EXACT) {  // which have no tiles
      tile<decltype(empty), R, C, false, false>(staged, layer.fan_out, n, layer.fan_in,
                                                UNIT_CHAIN < 0, t,
                                                Matrix{m + layer.weights, layer.fan_out, 1},
                                                Matrix{below, n, 1}, put);
    }
  });
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    forward_large(u32 k, const number* memory, number* z, number* h, u32 n, const u64* keys,
                  u64 step) {
  forward_by_tiles<LARGE>(k, memory, z, h, n, keys, step);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    forward_narrow(u32 k, const number* memory, number* z, number* h, u32 n, const u64* keys,
                   u64 step) {
  forward_by_tiles<NARROW>(k, memory, z, h, n, keys, step);
}

// delta of the layer below layer k.
template <int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void backward_by_tiles(u32 k, const number* memory, const number* z,
                                                  number* d, u32 n, const u64* keys, u64 step) {
  const Layer layer = layers[k];
  const bool active = layers[k - 1].active;
  const RoundingKey t = rounding_key(keys, step);
  const number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const number* above = d + ((u64)blockIdx.y * UNITS + layer.units) * n;
  const u64 below = ((u64)blockIdx.y * UNITS + layer.units - layer.fan_in) * n;
  __shared__ __align__(16) Staged<TM, TN, TK> staged;
  const auto put = [&](u32 j, u32 i, const number (&sums)[R][C]) {
    number of_z[R][C];
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const bool there = j + r < layer.fan_in && i + c < n;
        of_z[r][c] = there ? z[below + (u64)(j + r) * n + i + c] : (number)0;
      }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
        if (j + r >= layer.fan_in || i + c >= n) continue;
        const number found =
            active ? activation_backward(sums[r][c], of_z[r][c], t) : sums[r][c];
        d[below + (u64)(j + r) * n + i + c] = found;
      }
    }
  };
  with_backward(k, [&](auto empty) {
    if constexpr (!decltype(empty)::EXACT) {  // which have no tiles
      tile<decltype(empty), R, C, true, false>(staged, layer.fan_in, n, layer.fan_out, UNIT_CHAIN < 0,
                                               t, Matrix{m + layer.weights, 1, layer.fan_out},
                                               Matrix{above, n, 1}, put);
    }
  });
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    backward_large(u32 k, const number* memory, const number* z, number* d, u32 n,
                   const u64* keys, u64 step) {
  backward_by_tiles<LARGE>(k, memory, z, d, n, keys, step);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    backward_narrow(u32 k, const number* memory, const number* z, number* d, u32 n,
                    const u64* keys, u64 step) {
  backward_by_tiles<NARROW>(k, memory, z, d, n, keys, step);
}

// The gradient of each weight of layer k > 0, and its update; tiles of outputs by inputs.
extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    descend_large(u32 k, number* memory, const number* h, const number* d, u32 n, const u64* keys,
                  u64 step, const number* rates, u32 rate) {
  const Layer layer = layers[k];
  const RoundingKey t = rounding_key(keys, step);
  number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const number* delta = d + ((u64)blockIdx.y * UNITS + layer.units) * n;
  const number* below = h + ((u64)blockIdx.y * UNITS + layer.units - layer.fan_in) * n;
  const number of_step = rates[rate];
  __shared__ __align__(16) Staged<128, 32, 16> staged;
  const auto put = [&](u32 u, u32 j, const number (&g)[8][4]) {
    const u32 first = layer.weights + j * layer.fan_out + u;
    const bool fours = (layer.fan_out | layer.fan_in) % 4 == 0;
#pragma unroll
    for (int r = 0; r < 8; r += 4) {
      if (fours && u + r < layer.fan_out) {
        number v[4][1 + STATES][4];  // all are loaded before any is stored
#pragma unroll
        for (int c = 0; c < 4; ++c) {
#pragma unroll
          for (int k = 0; k <= STATES; ++k) {
            load<4>(m + first + c * layer.fan_out + r + k * PARAMETERS, v[c][k]);
          }
        }
#pragma unroll
        for (int c = 0; c < 4; ++c) {
#pragma unroll
          for (int e = 0; e < 4; ++e) update_values(v[c], e, g[r + e][c], of_step, t);
#pragma unroll
          for (int k = 0; k <= STATES; ++k) {
            store<4>(m + first + c * layer.fan_out + r + k * PARAMETERS, v[c][k]);
          }
        }
        continue;
      }
#pragma unroll
      for (int c = 0; c < 4; ++c) {
#pragma unroll
        for (int e = r; e < r + 4; ++e) {
          if (u + e < layer.fan_out && j + c < layer.fan_in) {
            update(m, first + c * layer.fan_out + e, g[e][c], of_step, t);
          }
        }
      }
    }
  };
  with_batch(k, [&](auto empty) {
    if constexpr (!decltype(empty)::EXACT) {  // which have no tiles
      tile<decltype(empty), 8, 4, true, true>(staged, layer.fan_out, layer.fan_in, n, BATCH_CHAIN < 0,
                                              t, Matrix{delta, 1, n}, Matrix{below, 1, n}, put);
    }
  });
}
