#pragma once
// Foreign text in messages: printable ASCII only, and not too much of it.

#include <string>
#include <string_view>

namespace edgead {

// Other bytes than printable ASCII become \xNN; what is longer than `most` ends with "...".
std::string printable(std::string_view text, std::size_t most = 200);
// The same between single quotes.
std::string in_quotes(std::string_view text);

}  // namespace edgead
