// After warm-up, a run with the null engine, and a windowed search behind an engine, allocate nothing, take no lock and
// make no system call: counted by replaced allocators and mutex functions, and by a filter that traps every system call
// of the thread.

#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "engines/backends.hpp"
#include "engines/tiled.hpp"
#include "session_fixture.hpp"

namespace {

thread_local bool counting = false;
volatile long allocations = 0, locks = 0, system_calls = 0;

void on_system_call(int, siginfo_t *, void *) { ++system_calls; }

}  // namespace

extern "C" {
void *__libc_malloc(std::size_t);
void __libc_free(void *);
void *__libc_calloc(std::size_t, std::size_t);
void *__libc_realloc(void *, std::size_t);
void *__libc_memalign(std::size_t, std::size_t);

void *malloc(std::size_t size) {
  if (counting) ++allocations;
  return __libc_malloc(size);
}
void free(void *data) {
  if (counting && data != nullptr) ++allocations;
  __libc_free(data);
}
void *calloc(std::size_t count, std::size_t size) {
  if (counting) ++allocations;
  return __libc_calloc(count, size);
}
void *realloc(void *data, std::size_t size) {
  if (counting) ++allocations;
  return __libc_realloc(data, size);
}
void *aligned_alloc(std::size_t alignment, std::size_t size) {
  if (counting) ++allocations;
  return __libc_memalign(alignment, size);
}
int posix_memalign(void **out, std::size_t alignment, std::size_t size) {
  if (counting) ++allocations;
  *out = __libc_memalign(alignment, size);
  return *out != nullptr ? 0 : 12;
}

int pthread_mutex_lock(pthread_mutex_t *mutex) {
  using Lock = int (*)(pthread_mutex_t *);
  static const Lock original = reinterpret_cast<Lock>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  if (counting) ++locks;
  return original(mutex);
}
}

namespace {

template <typename Run>
void run_many(Run run) {
  for (int i = 0; i < 200; ++i)
    if (run() != EDGEAD_OK) ++check_failure_count();
}

// The counters do count: else zeros would say nothing.
void check_counters() {
  counting = true;
  void *volatile data = std::malloc(10);
  std::free(data);
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  counting = false;
  CHECK_EQ(allocations, 2);
  CHECK_EQ(locks, 1);
  allocations = locks = 0;
}

// In a child: from the filter on, every system call but the end of the process raises SIGSYS and is counted.
template <typename Run>
int child(Run run) {
  struct sigaction action {};
  action.sa_sigaction = on_system_call;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSYS, &action, nullptr);
  sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof rules / sizeof rules[0], rules};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    return 77;  // not allowed here
  syscall(SYS_getppid);
  const long counted = system_calls;  // 1: the filter works
  run_many(run);
  return counted != 1 ? 2 : system_calls == counted ? 0 : 1;
}

template <typename Run>
void check_quiet(const char *what, Run run) {
  counting = true;
  run_many(run);
  counting = false;
  CHECK_EQ(allocations, 0);
  CHECK_EQ(locks, 0);
  const pid_t pid = fork();
  if (pid == 0) _exit(child(run));
  int status = 0;
  waitpid(pid, &status, 0);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == 77)
    std::puts("system calls were not counted: this machine allows no seccomp filter");
  else
    CHECK_EQ(code, 0);
  std::printf("%s, 200 runs: %ld allocations, %ld locks, system calls: %s\n", what, allocations, locks,
              code == 0 ? "0" : code == 77 ? "not counted" : "some");
}

// An engine that gives the same query tensors again and again.
class Stored final : public edgead::Engine, public edgead::Request {
 public:
  explicit Stored(const std::vector<edgead::OutputTensor> &outputs) : input_(8 * 8 * 3) {
    for (const edgead::OutputTensor &output : outputs) outputs_.emplace_back(output.count());  // index 0, too
  }

  std::unique_ptr<Request> create_request() override { return std::make_unique<Stored>(*this); }
  std::string version() const override { return ""; }
  std::string library() const override { return ""; }
  std::uint8_t *input() noexcept override { return input_.data(); }
  const void *output(std::size_t index) const noexcept override {
    return index < outputs_.size() ? outputs_[index].data() : nullptr;
  }
  edgead_status infer(const edgead::ErrorSink &) noexcept override { return EDGEAD_OK; }

 private:
  std::vector<std::uint8_t> input_;
  std::vector<std::vector<float>> outputs_;
};

void check_search() {
  edgead::TargetEntry entry{};
  entry.target = "openvino+window_search:fp32";
  entry.engine = "openvino+window_search";
  entry.files = {"query", "bank"};
  entry.head = edgead::WindowSearch{3, 2, 5, EDGEAD_BANK_FP16, true, {{8, 8, 3, "bank"}, {8, 8, 1, "bank"}}};
  const edgead::FileLookup file = [](const std::string &) {
    return std::make_shared<const edgead::Bytes>(3 * 8 * 5 * 8 * 2);
  };
  const edgead::TensorShapes shapes{1, 8, 8, 1, 32, 32, false};
  const std::vector<edgead::OutputTensor> none;
  const auto engine = edgead::open_window_search(
      {file, shapes, entry, {}, none}, [](const edgead::EngineSource &source) -> std::shared_ptr<edgead::Engine> {
        return std::make_shared<Stored>(source.outputs);
      });
  const auto request = engine->create_request();
  check_quiet("search", [&] { return request->infer({nullptr, 0}); });
}

// On one thread: waking another is a system call, which is counted.
void check_bank() {
  edgead::TargetEntry entry{};
  entry.target = "openvino+bank_search:fp32";
  entry.engine = "openvino+bank_search";
  entry.files = {"query", "bank", "near"};
  entry.bank = edgead::BankSearch{70, 5, 2, "bank", "near"};
  const edgead::FileLookup file = [](const std::string &name) {
    return std::make_shared<const edgead::Bytes>(name == "bank" ? 70 * 5 * 4 : 70 * 2 * 4);
  };
  const edgead::TensorShapes shapes{1, 8, 8, 1, 32, 32, true};
  const std::vector<edgead::OutputTensor> none;
  edgead::EngineOptions options;
  options.threads = 1;
  const auto engine = edgead::open_bank_search(
      {file, shapes, entry, options, none}, [](const edgead::EngineSource &source) -> std::shared_ptr<edgead::Engine> {
        return std::make_shared<Stored>(source.outputs);
      });
  const auto request = engine->create_request();
  CHECK(request->score() != nullptr);
  check_quiet("bank search", [&] { return request->infer({nullptr, 0}); });
}

void check_tiled() {
  const edgead::Tiling tiling{{2, 8, 4, 6, 3}, {3, 8, 4, 4, 2}};
  const std::vector<edgead::OutputTensor> outputs{{"anomaly_map", "f32", {1, 2, 4, 4}}, {"image_score", "f32", {1}}};
  const auto engine = edgead::open_tiled(std::make_shared<Stored>(outputs), {1, 14, 16, 2, 7, 8, true}, tiling);
  const auto request = engine->create_request();
  check_quiet("tiles", [&] { return request->infer({nullptr, 0}); });
}

}  // namespace

int main() {
  const maker::Folder folder("edgead-quiet");
  maker::make(folder.path() / "b.edgead");
  check_counters();
  const Opened opened(folder.path() / "b.edgead");
  const OpenedSession session(opened.model);
  for (const std::uint32_t resolution : {EDGEAD_RESOLUTION_NETWORK, EDGEAD_RESOLUTION_FRAME}) {
    TestFrame frame(320, 200);
    TestResult out(320 * 200);
    out.result.resolution = resolution;
    CHECK_EQ(edgead_session_prepare(session.session, &frame.image, resolution, nullptr, 0), EDGEAD_OK);
    CHECK_EQ(edgead_session_warm_up(session.session, 3, nullptr, 0), EDGEAD_OK);
    // The very first frame included: it was prepared.
    check_quiet("session", [&] {
      return edgead_session_run(session.session, &frame.image, &out.result, nullptr, 0);
    });
  }
  check_search();
  check_bank();
  check_tiled();
  return check_failures();
}
