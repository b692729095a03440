#include "bundle/manifest_fields.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "bundle/hash_list.hpp"
#include "bundle/quote.hpp"
#include "error.hpp"

namespace edgead {
namespace {

bool is_content_hash(const std::string &text) {
  return text.rfind("sha256:", 0) == 0 && is_hash_hex(std::string_view(text).substr(7));
}

// YYYY-MM-DDThh:mm:ssZ, a day and a second that exist.
bool is_date(const std::string &text) {
  const std::string form = "0000-00-00T00:00:00Z";
  if (text.size() != form.size()) return false;
  int parts[6] = {}, part = 0;
  for (std::size_t i = 0; i < form.size(); ++i) {
    if (form[i] != '0') {
      if (text[i] != form[i]) return false;
      ++part;
    } else if (text[i] >= '0' && text[i] <= '9') {
      parts[part] = 10 * parts[part] + (text[i] - '0');
    } else {
      return false;
    }
  }
  const auto [year, month, day, hour, minute, second] = parts;
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  const int days[] = {31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  // Python's strftime does not write years below 1000 with four digits, so its reader refuses them.
  return year >= 1000 && month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] && hour < 24 && minute < 60 &&
         second < 60;
}

std::vector<std::string> read_hashes(const JsonField &field) {
  std::vector<std::string> hashes;
  for (const JsonField &item : field.items()) {
    hashes.push_back(item.text());
    if (!is_content_hash(hashes.back()))
      raise(EDGEAD_ERR_BUNDLE, "%s has %s, must be sha256: and 64 lower-case hex digits", field.path().c_str(),
            in_quotes(hashes.back()).c_str());
  }
  std::sort(hashes.begin(), hashes.end());
  hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
  return hashes;
}

}  // namespace

std::string thresholds_problem(const ThresholdValues &t) {
  const struct {
    double limit, median;
    const char *name;
  } pairs[] = {{t.image, t.image_median, "image"}, {t.pixel, t.pixel_median, "pixel"}};
  char text[200];
  for (const auto &pair : pairs) {
    if (!std::isfinite(pair.limit) || !std::isfinite(pair.median)) {
      std::snprintf(text, sizeof text, "%s threshold %g or its median %g is not finite", pair.name, pair.limit,
                    pair.median);
      return text;
    }
    if (!(pair.limit > pair.median)) {
      std::snprintf(text, sizeof text, "%s threshold %g is not above the median %g of good images", pair.name,
                    pair.limit, pair.median);
      return text;
    }
  }
  return "";
}

ThresholdValues read_thresholds(const JsonField &field, const std::string &owner) {
  const ThresholdValues values{field.at("image").number(), field.at("pixel").number(),
                               field.at("image_median").number(), field.at("pixel_median").number()};
  static_cast<void>(field.at("method").members());
  if (const std::string problem = thresholds_problem(values); !problem.empty())
    raise(EDGEAD_ERR_BUNDLE, "%s: %s", owner.c_str(), problem.c_str());
  return values;
}

void check_date(const std::string &text, const std::string &where) {
  if (!is_date(text))
    raise(EDGEAD_ERR_BUNDLE, "%s: date %s is not of the form 2026-11-23T14:35:56Z (UTC)", where.c_str(),
          in_quotes(text).c_str());
}

float read_float(const JsonField &field) {
  const double value = field.number();
  if (std::fabs(value) > static_cast<double>(std::numeric_limits<float>::max()))
    raise(EDGEAD_ERR_BUNDLE, "%s %g is out of range", field.path().c_str(), value);
  return static_cast<float>(value);
}

void check_provenance(const JsonField &provenance, const std::string &source) {
  check_date(provenance.at("created").text(), provenance.at("created").path());
  const JsonField model = provenance.at("model");
  if (!is_content_hash(model.text()))
    raise(EDGEAD_ERR_BUNDLE, "%s has %s, must be sha256: and 64 lower-case hex digits", model.path().c_str(),
          in_quotes(model.text()).c_str());
  for (const auto &seed : provenance.at("seeds").members()) static_cast<void>(seed.second.integer());
  for (const auto &tool : provenance.at("tools").members()) static_cast<void>(tool.second.text());
  const std::vector<std::string> train = read_hashes(provenance.at("train"));
  static_cast<void>(read_hashes(provenance.at("calibration")));
  for (const char *name : {"held_out", "validation"}) {
    const std::vector<std::string> group = read_hashes(provenance.at(name));
    std::vector<std::string> both;
    std::set_intersection(train.begin(), train.end(), group.begin(), group.end(), std::back_inserter(both));
    if (!both.empty())
      raise(EDGEAD_ERR_BUNDLE, "%s: provenance: %zu images are both in train and in %s, for instance %s",
            source.c_str(), both.size(), name, both.front().c_str());
  }
  const JsonField parity = provenance.at("graph_parity");
  bool sound = parity.at("images").integer() >= 1;
  for (const char *name : {"score_shift_max", "score_range", "map_shift_max", "map_range"})
    sound = parity.at(name).number() >= 0 && sound;
  if (!sound) raise(EDGEAD_ERR_BUNDLE, "%s has no images or a negative figure", parity.path().c_str());
}

}  // namespace edgead
