#include "bundle/sidecar.hpp"

#include <filesystem>
#include <fstream>

#include "bundle/json.hpp"
#include "bundle/manifest_fields.hpp"
#include "bundle/quote.hpp"
#include "error.hpp"

namespace edgead {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t SCHEMA = 1;
constexpr std::size_t MAX_BYTES = 1 << 20;

}  // namespace

std::map<std::string, ThresholdValues> read_sidecar(const std::string &bundle, const std::string &digest) {
  std::error_code error;
  fs::path path = fs::canonical(fs::u8path(bundle), error);
  if (error) raise(EDGEAD_ERR_BUNDLE, "%s cannot be resolved: %s", bundle.c_str(), error.message().c_str());
  if (!path.has_filename()) return {};  // the root of a file system has nothing beside it
  path += ".thresholds.json";
  const std::string shown = path.u8string();
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return {};
  std::string text(MAX_BYTES + 1, '\0');
  std::ifstream stream;
  if (fs::is_regular_file(status)) stream.open(path, std::ios::binary);
  if (!stream.is_open()) raise(EDGEAD_ERR_BUNDLE, "%s cannot be read", shown.c_str());
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) raise(EDGEAD_ERR_BUNDLE, "%s cannot be read", shown.c_str());
  text.resize(static_cast<std::size_t>(stream.gcount()));
  return parse_sidecar(text, shown, digest);
}

std::map<std::string, ThresholdValues> parse_sidecar(const std::string &text, const std::string &source,
                                                     const std::string &digest) {
  const JsonValue tree = parse_json(text, source, MAX_BYTES);
  check_schema(tree, SCHEMA, source);
  const JsonField root(tree, source);
  if (const std::string &bundle = root.at("bundle").text(); bundle != digest)
    raise(EDGEAD_ERR_BUNDLE,
          "%s was set for another bundle (%s, this one is %s); delete that file to use the bundle's own thresholds, "
          "then set them again",
          source.c_str(), printable(bundle).c_str(), digest.c_str());
  std::map<std::string, ThresholdValues> site;
  for (const JsonField &item : root.at("targets").items()) {
    const std::string &target = item.at("target").text();
    const std::string where = source + ": " + printable(target);
    check_date(item.at("set").text(), where);
    static_cast<void>(item.at("set_by").text());
    site[target] = read_thresholds(item.at("thresholds"), where);
  }
  return site;
}

}  // namespace edgead
