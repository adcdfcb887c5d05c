// The functions of the fmt whose headers libtorch ships without a library. With FMT_HEADER_ONLY
// every file would compile them again (3.7 s each); here it happens once.
// Not for: layers without libtorch, which link Debian's fmt (another inline namespace).
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {

template auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template auto decimal_point_impl(locale_ref) -> char;

}  // namespace detail
FMT_END_NAMESPACE
