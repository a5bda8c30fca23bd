// Examples, permutations and plans, drawn where they are used: docs/arithmetic.md, "Streams".
//
// An example is a row of words of 32 features and its label, one word more: with 32 features, as all
// that are drawn have, a row is x + y * 2^32.  Of the caller's examples what is shuffled are places in
// a table of rows.  rows (models, n) as u64; model m's key is keys[m].

// Examples first, first + 1, ... of each pair's stream (blockIdx.y), for both its models: rows
// (models, n) as u64; models (pairs, 2): which they are, twice the same one if there is no other.
extern "C" __global__ void draw(const u32* keys, const u32* models, u64 first, const u64* columns,
                                const double* odds, u64* rows, u32 n) {
  const u32 k = blockIdx.x * blockDim.x + threadIdx.x, pair = blockIdx.y;
  if (k >= n) return;
  const u64 i = first + k;
  const Words w = philox((u32)i, (u32)(i >> 32), 0, 0, keys[2 * pair], keys[2 * pair + 1]);
  const u32 c0 = w.a & 0xFFFFu, c1 = w.a >> 16;
  const u64 e0 = columns[c0], e1 = columns[c1];  // threshold * 2^16 + alias
  const u32 low = w.b < (u32)(e0 >> 16) ? c0 : (u32)e0 & 0xFFFFu;
  const u32 high = w.c < (u32)(e1 >> 16) ? c1 : (u32)e1 & 0xFFFFu;
  const double o = __dmul_rn(odds[low], odds[65536 + high]);
  const double u = __dmul_rn(__dadd_rn((double)w.d, 0.5), 0x1p-32);
  const u64 label = __dmul_rn(u, __dadd_rn(1.0, o)) < o;
  const u64 row = (u64)(low | high << 16) | label << 32;
  const u32 one = models[2 * pair], other = models[2 * pair + 1];
  rows[(u64)one * n + k] = row;
  if (other != one) rows[(u64)other * n + k] = row;
}

// Windows of n <= 32 examples in the order of their permutations: a warp a window, whose lane e
// follows where the exchanges take the example that begins at place e.  windows of each model
// (blockIdx.y), the first by the permutation `first` and `at` numbers from where the model's begin, which
// are `stride` numbers apart.
extern "C" __global__ void shuffle_short(const u32* keys, u64 first, u64* rows, u64 stride, u64 at,
                                         u32 n, u32 windows) {
  const u32 lane = threadIdx.x & 31, model = blockIdx.y;
  const u32 window = (blockIdx.x * blockDim.x + threadIdx.x) >> 5;
  if (window >= windows) return;
  const u32 j = lane < n ? exchanged(lane, first + window, keys + 2 * model) : lane;
  u32 place = lane;
  for (u32 i = n - 1; i >= 1; --i) {
    const u32 other = __shfl_sync(ALL_LANES, j, i);
    place = place == i ? other : place == other ? i : place;
  }
  u64* row = rows + model * stride + at + (u64)window * n;
  const u64 example = lane < n ? row[lane] : 0;
  __syncwarp();
  if (lane < n) row[place] = example;
}

// The same for windows of any length, 32 exchanges at a time: place i falls from n - 1, and lane l
// exchanges i - l with its j.  If no two of them touch one place, they are made together, else one
// by one.  A warp a window (blockIdx.x).
extern "C" __global__ void shuffle_long(const u32* keys, u64 first, u64* rows, u64 stride, u64 at,
                                        u32 n, u32 windows) {
  const u32 lane = threadIdx.x, window = blockIdx.x, model = blockIdx.y;
  u64* row = rows + model * stride + at + (u64)window * n;
  for (long long top = (long long)n - 1; top >= 1; top -= 32) {
    const bool busy = top - lane >= 1;
    const u32 i = busy ? (u32)(top - lane) : 0;
    const u32 j = busy ? exchanged(i, first + window, keys + 2 * model) : 0;
    // places from n on stand for none, a different one for each lane
    const u32 alike = __match_any_sync(ALL_LANES, busy ? j : 0xFFFFFFE0u + lane);
    const bool among = (long long)j > top - 32 && j != i;
    const bool clash = busy && (alike != 1u << lane || among);
    if (__any_sync(ALL_LANES, clash)) {
      for (int l = 0; l < 32; ++l) {
        const u32 from = __shfl_sync(ALL_LANES, i, l), to = __shfl_sync(ALL_LANES, j, l);
        if (lane == 0 && from >= 1) {
          const u64 kept = row[from];
          row[from] = row[to];
          row[to] = kept;
        }
      }
    } else if (busy) {
      const u64 a = row[i], b = row[j];
      row[i] = b;
      row[j] = a;
    }
    __syncwarp();
  }
}

// Places of the caller's examples, epoch after epoch: those of each pair (blockIdx.y), whose pools are
// `apart` numbers apart, again and again, n in all.
extern "C" __global__ void deal(const u64* pools, u64 apart, u64 epoch, u64* epochs, u64 n) {
  const u64 k = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (k < n) epochs[blockIdx.y * n + k] = pools[blockIdx.y * apart + k % epoch];
}

// The n places from `first` on of each model (blockIdx.y), of the epochs (pairs, count) of its pair.
extern "C" __global__ void take(const u64* epochs, u64 count, const u32* pairs, u64 first,
                                u64* rows, u64 n) {
  const u64 k = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (k < n) rows[blockIdx.y * n + k] = epochs[pairs[blockIdx.y] * count + first + k];
}

// Rows of `width` numbers of a table, those at the places from `first` on of each model (blockIdx.y),
// whose places are `length` numbers apart and whose rows `stride`; n numbers in all.
extern "C" __global__ void gather(const u32* table, u32 width, const u64* places, u64 length,
                                  u64 first, u32* rows, u64 stride, u64 n) {
  const u64 q = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (q >= n) return;
  const u64 place = places[blockIdx.y * length + first + q / width];
  rows[blockIdx.y * stride + q] = table[place * width + q % width];
}

// Plans of sums over n terms, one for each of `count` blocks of each model's stream: block
// first + k * step.  A thread a plan.  plans (models, count, length, 2), whose instructions are a
// partial sum and what joins it (numerics/trees.py): those of `tree` (length, 2), or of a tree that is
// drawn.  terms (n): which term is each leaf, before their order is drawn, if it is.  spare
// (models, count, 2, n) takes the leaves' order and the partial sums that are left.
extern "C" __global__ void make_plans(const u32* keys, u64 first, u64 step, const int2* tree,
                                      u32 draw_tree, const u32* terms, u32 draw_order, u32 n,
                                      u32 length, u32 count, int2* plans, u32* spare) {
  const u32 k = blockIdx.x * blockDim.x + threadIdx.x, model = blockIdx.y;
  if (k >= count) return;
  const u64 block = first + k * step;
  const u32* key = keys + 2 * model;
  u32* order = spare + ((u64)model * count + k) * 2 * n;
  for (u32 i = 0; i < n; ++i) order[i] = terms[i];
  if (draw_order) {
    for (u32 i = n - 1; i >= 1; --i) {
      const u32 j = exchanged(i, block, key), kept = order[i];
      order[i] = order[j];
      order[j] = kept;
    }
  }
  int2* plan = plans + ((u64)model * count + k) * length;
  if (!draw_tree) {
    for (u32 row = 0; row < length; ++row) {
      const int2 join = tree[row];
      plan[row] = join.y >= 0 ? make_int2(join.x, (int)order[join.y]) : join;
    }
    return;
  }
  // of m partial sums that are left, the later of two joins the earlier; the last takes its place
  u32* left = order + n;
  for (u32 i = 0; i < n; ++i) {
    plan[i] = make_int2((int)i, (int)order[i]);
    left[i] = i;
  }
  for (u32 m = n; m >= 2; --m) {
    const Words w = philox(m, (u32)block, (u32)(block >> 32), 2, key[0], key[1]);
    const u32 a = bounded(w.a, w.b, m), c = bounded(w.c, w.d, m - 1), b = c >= a ? c + 1 : c;
    const u32 low = a < b ? a : b, high = a < b ? b : a;
    plan[2 * n - m] = make_int2((int)left[low], ~(int)left[high]);
    left[high] = left[m - 1];
  }
  // the sum ends in partial sum 0: it and the last one exchange their names
  const int last = (int)left[0];
  for (u32 row = 0; row < length; ++row) {
    int2 join = plan[row];
    if (join.x == last || join.x == 0) join.x = last - join.x;
    if (join.y < 0 && (~join.y == last || ~join.y == 0)) join.y = ~(last - ~join.y);
    plan[row] = join;
  }
}
