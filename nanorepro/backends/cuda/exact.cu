// The exact sum, rounded once: an integer of 32-bit digits, over all exponents that products have.

template <int WORDS> struct Exact {
  static constexpr bool EXACT = true;
  // digit k counts 2^(32 k - OFFSET); a digit takes 2^31 terms before any carry
  static constexpr int OFFSET = WORDS == 22 ? 384 : 2176;
  long long digit[WORDS];
  double special;  // the sum of what is infinite or NaN

  __device__ Exact() : special(0.0) {
    for (int k = 0; k < WORDS; ++k) digit[k] = 0;
  }

  // value * 2^(position - OFFSET), value of up to 64 bits
  __device__ void add(bool negative, u64 value, int position) {
    const int k = position >> 5, shift = position & 31;
    const u64 low = value << shift, high = shift ? value >> (64 - shift) : 0;
    const long long d0 = (u32)low, d1 = low >> 32, d2 = high;
    digit[k] += negative ? -d0 : d0;
    digit[k + 1] += negative ? -d1 : d1;
    digit[k + 2] += negative ? -d2 : d2;
  }

  static __device__ bool finite(double x) { return (pattern(x) >> 52 & 2047) != 2047; }
  static __device__ bool sign(double x) { return pattern(x) >> 63; }

  // |x| = significand * 2^exponent
  static __device__ u64 significand(double x) {
    const u64 fraction = pattern(x) & 0xFFFFFFFFFFFFFull;
    return pattern(x) >> 52 & 2047 ? fraction | 1ull << 52 : fraction;
  }
  static __device__ int exponent(double x) {
    const int biased = (int)(pattern(x) >> 52 & 2047);
    return (biased ? biased : 1) - 1075;
  }

  __device__ void add(double x) {
    if (x == 0.0) return;
    if (finite(x)) {
      add(sign(x), significand(x), exponent(x) + OFFSET);
    } else {
      special = __dadd_rn(special, x);
    }
  }

  __device__ void term(number a, RoundingKey t) { add((double)a); }

  __device__ void product(number a, number b, RoundingKey t) {
    if (!FUSED) {
      add((double)op_mul(a, b, t));
    } else if (sizeof(number) == 4 || !finite(a) || !finite(b)) {
      add(__dmul_rn((double)a, (double)b));  // exact, if finite
    } else {
      const u64 m = significand(a), n = significand(b);
      const int at = exponent(a) + exponent(b) + OFFSET;
      const bool negative = sign(a) != sign(b);
      add(negative, m * n, at);
      add(negative, __umul64hi(m, n), at + 64);
    }
  }

  __device__ void merge(const Exact& other, RoundingKey t) {
    for (int k = 0; k < WORDS; ++k) digit[k] += other.digit[k];
    special = __dadd_rn(special, other.special);
  }

  // digits from 0 to 2^32 - 1 of the magnitude; whether the sum is negative
  __device__ bool normalize() {
    long long carry = 0;
    for (int k = 0; k < WORDS; ++k) {
      carry += digit[k];
      digit[k] = carry & 0xFFFFFFFFll;
      carry >>= 32;
    }
    if (carry >= 0) return false;
    carry = 1;
    for (int k = 0; k < WORDS; ++k) {
      carry += 0xFFFFFFFFll - digit[k];
      digit[k] = carry & 0xFFFFFFFFll;
      carry >>= 32;
    }
    return true;
  }

  // The float64 nearest to the sum, or, where its last rounding follows, rounded to odd.
  __device__ double rounded() {
    const bool negative = normalize();
    int top = WORDS - 1;
    while (top >= 0 && digit[top] == 0) --top;
    if (top < 0) return 0.0;
    auto at = [&](int k) { return k >= 0 ? (u64)digit[k] : 0; };
    // the 64 bits from the highest one on, and whether there are others below
    const int zeros = __clz((int)(u32)digit[top]);
    const u64 first = at(top) << 32 | at(top - 1);
    const u64 window = zeros ? first << zeros | at(top - 2) >> (32 - zeros) : first;
    bool more = zeros ? (u32)(at(top - 2) << zeros) != 0 : at(top - 2) != 0;
    for (int k = top - 3; k >= 0; --k) more |= digit[k] != 0;
    const int e = 32 * top + 31 - zeros - OFFSET;  // of the highest bit
    const int kept = e >= -1022 ? 53 : e + 1075;   // bits of a float64 of this size
    if (kept < 0) return negative ? -0.0 : 0.0;    // less than half the least one
    const int dropped = 64 - kept;
    u64 m = dropped < 64 ? window >> dropped : 0;
    const u64 rest = dropped < 64 ? window << kept : window, half = 1ull << 63;
    if (sizeof(number) == 4) {
      m |= rest != 0 || more;
    } else {
      m += rest > half || (rest == half && (more || (m & 1)));
    }
    const u64 bits = e > 1023 ? 0x7FFull << 52 : e >= -1022 ? ((u64)(e + 1022) << 52) + m : m;
    return from_pattern(bits | (u64)negative << 63);
  }

  __device__ number result(RoundingKey t) {
    return op_round(special == 0.0 ? rounded() : special, t);
  }
};
