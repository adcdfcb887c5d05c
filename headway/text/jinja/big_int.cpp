// Schoolbook arithmetic on at most 2^16 bits. Not for: large numbers in hot loops.
#include "headway/text/jinja/big_int.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"

namespace headway::text::jinja {
namespace {

using Words = std::vector<std::uint32_t>;
constexpr std::size_t kMaxDigits = 4300;  // Python's limit for text of integers

void trim(Words& words) {
  while (!words.empty() && words.back() == 0) words.pop_back();
}

int compare(const Words& a, const Words& b) {
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  for (std::size_t i = a.size(); i-- > 0;) {
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}

Words add(const Words& a, const Words& b) {
  Words sum(std::max(a.size(), b.size()) + 1);
  std::uint64_t carry = 0;
  for (std::size_t i = 0; i < sum.size(); ++i) {
    carry += (i < a.size() ? a[i] : 0u);
    carry += (i < b.size() ? b[i] : 0u);
    sum[i] = static_cast<std::uint32_t>(carry);
    carry >>= 32;
  }
  trim(sum);
  return sum;
}

// a - b for a >= b.
Words subtract(const Words& a, const Words& b) {
  Words difference(a.size());
  std::int64_t borrow = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::int64_t word = std::int64_t{a[i]} - (i < b.size() ? b[i] : 0u) - borrow;
    borrow = word < 0 ? 1 : 0;
    difference[i] = static_cast<std::uint32_t>(word + (borrow << 32));
  }
  trim(difference);
  return difference;
}

// words = words * factor + addend.
void multiply_add(Words& words, std::uint32_t factor, std::uint32_t addend) {
  std::uint64_t carry = addend;
  for (std::uint32_t& word : words) {
    carry += std::uint64_t{word} * factor;
    word = static_cast<std::uint32_t>(carry);
    carry >>= 32;
  }
  if (carry != 0) words.push_back(static_cast<std::uint32_t>(carry));
}

// words = words / divisor; returns the remainder.
std::uint32_t divide_small(Words& words, std::uint32_t divisor) {
  std::uint64_t remainder = 0;
  for (std::size_t i = words.size(); i-- > 0;) {
    remainder = (remainder << 32) | words[i];
    words[i] = static_cast<std::uint32_t>(remainder / divisor);
    remainder %= divisor;
  }
  trim(words);
  return static_cast<std::uint32_t>(remainder);
}

// Quotient of magnitudes; `a` becomes the remainder. Shift and subtract, a bit at a time.
Words divide_large(Words& a, const Words& b) {
  if (b.size() == 1) {
    Words quotient = a;
    const std::uint32_t rest = divide_small(quotient, b[0]);
    a = rest == 0 ? Words{} : Words{rest};
    return quotient;
  }
  Words quotient(a.size());
  Words remainder;
  for (std::size_t bit = a.size() * 32; bit-- > 0;) {
    multiply_add(remainder, 2, (a[bit / 32] >> (bit % 32)) & 1u);
    if (compare(remainder, b) < 0) continue;
    remainder = subtract(remainder, b);
    quotient[bit / 32] |= 1u << (bit % 32);
  }
  trim(quotient);
  a = std::move(remainder);
  return quotient;
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

}  // namespace

BigInt::BigInt(Magnitude magnitude, bool negative)
    : magnitude_(std::move(magnitude)), negative_(negative) {
  trim(magnitude_);
  if (magnitude_.empty()) negative_ = false;
  if (bits() > kMaxBits) {
    fail(ErrorKind::kValue,
         fmt::format("an integer of {} bits, allowed at most {}", bits(), kMaxBits));
  }
}

BigInt::BigInt(std::int64_t value) : negative_(value < 0) {
  auto rest =
      negative_ ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
  for (; rest != 0; rest >>= 32) magnitude_.push_back(static_cast<std::uint32_t>(rest));
}

std::optional<BigInt> BigInt::parse(std::string_view digits, int base) {
  if (digits.empty()) return std::nullopt;
  if (digits.size() > kMaxDigits && (base & (base - 1)) != 0) {
    fail(ErrorKind::kValue, fmt::format("Exceeds the limit ({} digits) for integer string "
                                        "conversion: value has {} digits",
                                        kMaxDigits, digits.size()));
  }
  if (digits.size() > static_cast<std::size_t>(kMaxBits)) return std::nullopt;
  Words words;
  for (const char c : digits) {
    const int digit = digit_value(c);
    if (digit >= base) return std::nullopt;
    if (words.empty() && digit == 0) continue;
    if (words.empty()) {
      words.push_back(static_cast<std::uint32_t>(digit));
    } else {
      multiply_add(words, static_cast<std::uint32_t>(base), static_cast<std::uint32_t>(digit));
    }
  }
  return BigInt(std::move(words), false);
}

BigInt BigInt::from_double(double value) {
  int exponent = 0;
  const double fraction = std::frexp(std::trunc(std::fabs(value)), &exponent);
  const auto mantissa = static_cast<std::int64_t>(std::ldexp(fraction, 53));
  BigInt result(mantissa);
  if (exponent >= 53) {
    result = result * BigInt(2).power(exponent - 53);
  } else {
    result = BigInt(exponent <= 0 ? 0 : mantissa >> (53 - exponent));
  }
  return value < 0 ? result.negated() : result;
}

std::int64_t BigInt::bits() const {
  if (magnitude_.empty()) return 0;
  return static_cast<std::int64_t>(magnitude_.size()) * 32 - std::countl_zero(magnitude_.back());
}

std::optional<std::int64_t> BigInt::to_int64() const {
  if (magnitude_.size() > 2) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = magnitude_.size(); i-- > 0;) value = (value << 32) | magnitude_[i];
  const std::uint64_t limit = (std::uint64_t{1} << 63) - (negative_ ? 0 : 1);
  if (value > limit) return std::nullopt;
  return static_cast<std::int64_t>(negative_ ? ~value + 1 : value);
}

double BigInt::to_double() const {
  const std::int64_t size = bits();
  if (size > 1024) return negative_ ? -HUGE_VAL : HUGE_VAL;
  // The top 64 bits with everything below them folded into the lowest: rounds once, correctly.
  std::uint64_t top = 0;
  bool sticky = false;
  for (std::int64_t bit = size - 1; bit >= 0; --bit) {
    const bool set = (magnitude_[static_cast<std::size_t>(bit / 32)] >> (bit % 32)) & 1u;
    if (size - bit <= 64) {
      top = (top << 1) | (set ? 1u : 0u);
    } else {
      sticky = sticky || set;
    }
  }
  if (sticky) top |= 1u;
  const double value =
      std::ldexp(static_cast<double>(top), static_cast<int>(std::max<std::int64_t>(0, size - 64)));
  return negative_ ? -value : value;
}

std::string BigInt::to_string(int base) const {
  if (is_zero()) return "0";
  std::string digits;
  Words rest = magnitude_;
  charge(static_cast<std::int64_t>(rest.size() * rest.size()));
  while (!rest.empty()) {
    digits += "0123456789abcdefghijklmnopqrstuvwxyz"[divide_small(
        rest, static_cast<std::uint32_t>(base))];
    if (base == 10 && digits.size() > kMaxDigits) {
      fail(ErrorKind::kValue, fmt::format("Exceeds the limit ({} digits) for integer string "
                                          "conversion; use hex formats",
                                          kMaxDigits));
    }
  }
  if (negative_) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

BigInt BigInt::negated() const { return BigInt(magnitude_, !negative_); }

BigInt operator+(const BigInt& a, const BigInt& b) {
  if (a.negative_ == b.negative_) return BigInt(add(a.magnitude_, b.magnitude_), a.negative_);
  if (compare(a.magnitude_, b.magnitude_) >= 0) {
    return BigInt(subtract(a.magnitude_, b.magnitude_), a.negative_);
  }
  return BigInt(subtract(b.magnitude_, a.magnitude_), b.negative_);
}

BigInt operator-(const BigInt& a, const BigInt& b) { return a + b.negated(); }

BigInt operator*(const BigInt& a, const BigInt& b) {
  if (a.bits() + b.bits() > BigInt::kMaxBits + 1) {
    fail(ErrorKind::kValue, fmt::format("an integer of about {} bits, allowed at most {}",
                                        a.bits() + b.bits(), BigInt::kMaxBits));
  }
  charge(static_cast<std::int64_t>(a.magnitude_.size() * b.magnitude_.size()));
  Words product(a.magnitude_.size() + b.magnitude_.size());
  for (std::size_t i = 0; i < a.magnitude_.size(); ++i) {
    std::uint64_t carry = 0;
    for (std::size_t j = 0; j < b.magnitude_.size(); ++j) {
      carry += std::uint64_t{a.magnitude_[i]} * b.magnitude_[j] + product[i + j];
      product[i + j] = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    product[i + b.magnitude_.size()] = static_cast<std::uint32_t>(carry);
  }
  return BigInt(std::move(product), a.negative_ != b.negative_);
}

std::strong_ordering BigInt::operator<=>(const BigInt& other) const {
  if (negative_ != other.negative_) {
    return negative_ ? std::strong_ordering::less : std::strong_ordering::greater;
  }
  const int order = compare(magnitude_, other.magnitude_) * (negative_ ? -1 : 1);
  return order <=> 0;
}

BigInt::Division BigInt::divide(const BigInt& divisor) const {
  charge(static_cast<std::int64_t>(magnitude_.size() * 32 * (divisor.magnitude_.size() + 1)));
  Words rest = magnitude_;
  Words quotient = divide_large(rest, divisor.magnitude_);
  BigInt q(std::move(quotient), negative_ != divisor.negative_);
  BigInt r(std::move(rest), negative_);
  if (!r.is_zero() && negative_ != divisor.negative_) {
    q = q - BigInt(1);
    r = r + divisor;
  }
  return {std::move(q), std::move(r)};
}

BigInt BigInt::power(std::int64_t exponent) const {
  if (bits() <= 1) {  // 0, 1 and -1 stay small, whatever the exponent
    if (exponent == 0) return BigInt(1);
    return exponent % 2 == 0 && negative_ ? negated() : *this;
  }
  if (exponent > kMaxBits) {
    fail(ErrorKind::kValue,
         fmt::format("an exponent of {}, allowed at most {}", exponent, kMaxBits));
  }
  BigInt result(1);
  BigInt square = *this;
  for (std::int64_t rest = exponent; rest > 0; rest >>= 1) {
    if (rest & 1) result = result * square;
    if (rest > 1) square = square * square;
  }
  return result;
}

}  // namespace headway::text::jinja
