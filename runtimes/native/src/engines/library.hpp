#pragma once
// An engine's shared library, opened at run time. Everything that differs between systems is in platform_<system>.cpp.

#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace edgead {

// Where to look, in this order; the first place that is given is the only one.
struct LibrarySearch {
  std::string engine;              // for messages: "OpenVINO"
  std::string path;                // the caller's; empty = not given
  const char *variable;            // name of an environment variable that holds a path
  std::vector<std::string> names;  // what the system's loader is asked for, one after the other
  std::string advice;              // what to do where nothing is found, a sentence
};

// Never closed: an engine's thread pool outlives its last object, and unloading would pull the code from under it.
// Opening the same file again gives the same library.
class Library {
 public:
  // Throws Error(RUNTIME_MISSING): every file that was looked for, with the loader's reason.
  static Library open(const LibrarySearch &search);

  void *symbol(const char *name) const noexcept;  // NULL where the library has none
  // Puts the function `name` into the pointer; throws Error(RUNTIME_MISSING) where the library has none. `needs` ends
  // the message: which version would have it.
  template <typename Signature>
  void load(Signature *&function, const char *name, const std::string &needs) const {
    static_assert(sizeof function == sizeof(void *), "the loader gives functions as data pointers");
    void *found = required(name, needs);
    std::memcpy(&function, &found, sizeof function);
  }
  // The file that the loader found, as `symbol_name` of it says; the asked name where the loader cannot tell.
  std::string path(const char *symbol_name) const;

 private:
  void *required(const char *name, const std::string &needs) const;
  Library(void *handle, std::string asked) : handle_(handle), asked_(std::move(asked)) {}

  void *handle_;
  std::string asked_;
};

}  // namespace edgead
