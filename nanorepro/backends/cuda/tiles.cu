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
  const number* next[COUNT];  // the first of each four
  int last[COUNT];            // rows of the matrix after that one's
  u32 K, k0;
  u64 of_turn;
  bool reversed, fours;

  static __device__ __forceinline__ u32 term(int e) {
    const u32 q = threadIdx.x + e * TILE_THREADS;
    return ALONG ? q / T * 4 : q / (T / 4);
  }
  static __device__ __forceinline__ u32 row(int e) {
    const u32 q = threadIdx.x + e * TILE_THREADS;
    return ALONG ? q % T : q % (T / 4) * 4;
  }

  // Rows from m0 on, of M, whose last one stands for those behind it; the K terms in the order of the
  // chain.  `fours`: all begins and ends at multiples of four.
  __device__ __forceinline__ Stage(Matrix a, u32 K, u32 m0, u32 M, bool reversed, bool fours)
      : v{}, K(K), k0(0), of_turn((u64)TK * a.of_term), reversed(reversed), fours(fours) {
#pragma unroll
    for (int e = 0; e < COUNT; ++e) {
      const u32 m = min(m0 + row(e), M - (fours && !ALONG ? 4 : 1));
      const u32 k = reversed ? K - 1 - term(e) : term(e);
      next[e] = a.p + (long long)(int)k * a.of_term + (u64)m * a.of_row;
      last[e] = (int)(M - 1 - m);
    }
  }

  // The next TK terms.
  __device__ __forceinline__ void fetch() {
#pragma unroll
    for (int e = 0; e < COUNT; ++e) {
      const u32 k = k0 + term(e);
      if (fours) {
        number some[4];
        if (k < K) {
          load<4>(ALONG && reversed ? next[e] - 3 : next[e], some);
#pragma unroll
          for (int r = 0; r < 4; ++r) v[e][r] = ALONG && reversed ? some[3 - r] : some[r];
        }
      } else {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          if (ALONG && k + r < K) v[e][r] = next[e][reversed ? -r : r];
          if (!ALONG && k < K) v[e][r] = next[e][min(r, last[e])];
        }
      }
      next[e] = reversed ? next[e] - of_turn : next[e] + of_turn;
    }
    k0 += TK;
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

// A thread has R rows of a tile, as many as this side by side: what its neighbours load of them lies beside
// that, so that no two of them want the same bank of shared memory.
__device__ constexpr int together(int R) { return R < 4 ? R : 4; }

// Tile `at` of M x N sums of K terms a[k, m] * b[k, n]; put(m, n, sums) takes those of together(R) x C,
// from row m and column n on.
template <class Sum, int R, int C, bool A_ALONG, bool B_ALONG, int TM, int TN, int TK, class Put>
__device__ __forceinline__ void tile(Staged<TM, TN, TK>& staged, u32 at, u32 M, u32 N, u32 K,
                                     bool reversed, RoundingKey t, Matrix a, Matrix b, Put put) {
  static_assert(TM / R * (TN / C) == TILE_THREADS, "a thread for each R x C");
  auto& left = staged.left;
  auto& right = staged.right;
  constexpr int Q = together(R), APART = TM * Q / R;
  const u32 tiles = (M + TM - 1) / TM, x = threadIdx.x % (TM / R) * Q, y = threadIdx.x / (TM / R) * C;
  const u32 m0 = at % tiles * TM, n0 = at / tiles * TN;
  const bool fours = (M | N | K) % 4 == 0;
  Sum sums[R][C];
  Stage<TK, TM, A_ALONG> of_a(a, K, m0, M, reversed, fours);
  Stage<TK, TN, B_ALONG> of_b(b, K, n0, N, reversed, fours);
  of_a.fetch();
  of_b.fetch();
  const auto take = [&](u32 k, number (&ra)[R], number (&rb)[C]) {
#pragma unroll
    for (int r = 0; r < R; r += Q) load<Q>(&left[k][x + r / Q * APART], ra, r);
    load<C>(&right[k][y], rb);
  };
  const auto join = [&](const number (&ra)[R], const number (&rb)[C]) {
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
      of_a.fetch();
      of_b.fetch();
    }
    if (K - k0 >= TK) {
      number ra[2][R], rb[2][C];
      take(0, ra[0], rb[0]);
#pragma unroll 32
      for (u32 k = 0; k < TK; ++k) {  // the next term is on its way while one is joined
        if (k + 1 < TK) take(k + 1, ra[(k + 1) % 2], rb[(k + 1) % 2]);
        __syncwarp();  // the compiler would load it later
        join(ra[k % 2], rb[k % 2]);
      }
    } else {
#pragma unroll 1
      for (u32 k = 0; k < K - k0; ++k) {
        number ra[R], rb[C];
        take(k, ra, rb);
        join(ra, rb);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int first = 0; first < R; first += Q) {
    const u32 m = m0 + x + first / Q * APART;
    if (m >= M || n0 + y >= N) continue;
    number found[Q][C];
#pragma unroll
    for (int r = 0; r < Q; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) found[r][c] = sums[first + r][c].result(t);
    }
    put(m, n0 + y, found);
  }
}

#define LARGE 128, 32, 32, 8, 4  // many units
#define MIDDLE 32, 32, 16, 4, 2  // of a layer that one block trains
#define NARROW 4, 32, 128, 1, 1  // a few units, whose sums are long

// forward of layer k > 0: z = sum + b, h = A(z); tile `at` of it.
template <class Sum, int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void forward_by_tiles(Staged<TM, TN, TK>& staged, u32 at, u32 k,
                                                 const number* memory, number* z, number* h, u32 n,
                                                 RoundingKey t) {
  const Layer layer = layers[k];
  const number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const u64 above = ((u64)blockIdx.y * UNITS + layer.units) * n;
  const number* below = h + above - (u64)layer.fan_in * n;
  constexpr int Q = together(R);
  const auto put = [&](u32 u, u32 i, const number (&sums)[Q][C]) {
    number bias[Q];
#pragma unroll
    for (int r = 0; r < Q; ++r) bias[r] = m[layer.biases + min(u + r, layer.fan_out - 1)];
#pragma unroll
    for (int r = 0; r < Q; ++r) {
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
  tile<Sum, R, C, false, false>(staged, at, layer.fan_out, n, layer.fan_in, UNIT_CHAIN < 0, t,
                                Matrix{m + layer.weights, layer.fan_out, 1}, Matrix{below, n, 1},
                                put);
}

// delta of the layer below layer k; tile `at` of it.
template <class Sum, int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void backward_by_tiles(Staged<TM, TN, TK>& staged, u32 at, u32 k,
                                                  const number* memory, const number* z, number* d,
                                                  u32 n, RoundingKey t) {
  const Layer layer = layers[k];
  const bool active = layers[k - 1].active;
  const number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const number* above = d + ((u64)blockIdx.y * UNITS + layer.units) * n;
  const u64 below = ((u64)blockIdx.y * UNITS + layer.units - layer.fan_in) * n;
  constexpr int Q = together(R);
  const auto put = [&](u32 j, u32 i, const number (&sums)[Q][C]) {
    number of_z[Q][C];
#pragma unroll
    for (int r = 0; r < Q; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const bool there = j + r < layer.fan_in && i + c < n;
        of_z[r][c] = there ? z[below + (u64)(j + r) * n + i + c] : (number)0;
      }
    }
#pragma unroll
    for (int r = 0; r < Q; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
        if (j + r >= layer.fan_in || i + c >= n) continue;
        const number found =
            active ? activation_backward(sums[r][c], of_z[r][c], t) : sums[r][c];
        d[below + (u64)(j + r) * n + i + c] = found;
      }
    }
  };
  tile<Sum, R, C, true, false>(staged, at, layer.fan_in, n, layer.fan_out, UNIT_CHAIN < 0, t,
                               Matrix{m + layer.weights, 1, layer.fan_out}, Matrix{above, n, 1}, put);
}

// The gradient of each weight of layer k > 0, and its update; a tile of outputs by inputs.
template <class Sum, int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void descend_by_tiles(Staged<TM, TN, TK>& staged, u32 at, u32 k,
                                                 number* memory, const number* h, const number* d,
                                                 u32 n, RoundingKey t, number rate) {
  const Layer layer = layers[k];
  number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const number* delta = d + ((u64)blockIdx.y * UNITS + layer.units) * n;
  const number* below = h + ((u64)blockIdx.y * UNITS + layer.units - layer.fan_in) * n;
  static_assert(together(R) == 4, "four weights side by side");
  const auto put = [&](u32 u, u32 j, const number (&g)[4][C]) {
    const u32 first = layer.weights + j * layer.fan_out + u;
    if ((layer.fan_out | layer.fan_in) % 4 == 0) {
      number v[C][1 + STATES][4];  // all are loaded before any is stored
#pragma unroll
      for (int c = 0; c < C; ++c) {
#pragma unroll
        for (int k = 0; k <= STATES; ++k) {
          load<4>(m + first + c * layer.fan_out + k * PARAMETERS, v[c][k]);
        }
      }
#pragma unroll
      for (int c = 0; c < C; ++c) {
#pragma unroll
        for (int r = 0; r < 4; ++r) update_values(v[c], r, g[r][c], rate, t);
#pragma unroll
        for (int k = 0; k <= STATES; ++k) {
          store<4>(m + first + c * layer.fan_out + k * PARAMETERS, v[c][k]);
        }
      }
      return;
    }
#pragma unroll
    for (int c = 0; c < C; ++c) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        if (u + r < layer.fan_out && j + c < layer.fan_in) {
          update(m, first + c * layer.fan_out + r, g[r][c], rate, t);
        }
      }
    }
  };
  tile<Sum, R, C, true, true>(staged, at, layer.fan_out, layer.fan_in, n, BATCH_CHAIN < 0, t,
                              Matrix{delta, 1, n}, Matrix{below, 1, n}, put);
}
