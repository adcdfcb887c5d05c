// Integers beyond 64 bits, as Python has them: templates print ids and powers that need them.
// Not for: speed, or cryptography.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace headway::text::jinja {

/// Sign and magnitude (base 2^32, least significant first, no leading zeros; zero is not negative).
/// Results of more than kMaxBits are a TemplateError of kind value, as is their text beyond
/// Python's 4300 digits.
class BigInt {
 public:
  static constexpr std::int64_t kMaxBits = 1 << 16;

  BigInt() = default;
  BigInt(std::int64_t value);  // NOLINT: a number is a number
  /// Digits of `base` (2 to 36), without sign or prefix; nullopt if one is not.
  static std::optional<BigInt> parse(std::string_view digits, int base);
  /// Integer part of a finite number.
  static BigInt from_double(double value);

  bool is_zero() const { return magnitude_.empty(); }
  bool is_negative() const { return negative_; }
  std::int64_t bits() const;
  std::optional<std::int64_t> to_int64() const;
  double to_double() const;  // rounds to nearest even; infinite if too large
  std::string to_string(int base = 10) const;
  BigInt negated() const;

  friend BigInt operator+(const BigInt& a, const BigInt& b);
  friend BigInt operator-(const BigInt& a, const BigInt& b);
  friend BigInt operator*(const BigInt& a, const BigInt& b);
  std::strong_ordering operator<=>(const BigInt& other) const;
  bool operator==(const BigInt& other) const = default;

  /// Quotient rounded down and remainder with the divisor's sign. `divisor` is not zero.
  struct Division;
  Division divide(const BigInt& divisor) const;
  BigInt power(std::int64_t exponent) const;  // exponent >= 0

 private:
  using Magnitude = std::vector<std::uint32_t>;
  BigInt(Magnitude magnitude, bool negative);

  Magnitude magnitude_;
  bool negative_ = false;
};

struct BigInt::Division {
  BigInt quotient;
  BigInt remainder;
};

}  // namespace headway::text::jinja
