// Vectors of FIPS 180-4 and of Python's hashlib; the CPU's instructions against the portable code.

#include <random>
#include <string>

#include "bundle/sha256.hpp"
#include "check.hpp"

namespace {

std::string portable(const std::string &data, std::size_t piece) {
  edgead::Sha256 hash(true);
  for (std::size_t i = 0; i < data.size(); i += piece) hash.update(data.data() + i, std::min(piece, data.size() - i));
  return hash.hex();
}

void check_vector(const std::string &data, const std::string &expected) {
  CHECK(edgead::sha256_hex(data.data(), data.size()) == expected);
  CHECK(portable(data, data.size() + 1) == expected);
}

}  // namespace

int main() {
  check_vector("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  check_vector("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  check_vector("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  check_vector(std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  // hashlib.sha256(b"a" * n)
  check_vector(std::string(55, 'a'), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
  check_vector(std::string(56, 'a'), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
  check_vector(std::string(63, 'a'), "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34");
  check_vector(std::string(64, 'a'), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
  check_vector(std::string(65, 'a'), "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0");
  std::mt19937 random(1);
  std::string data;
  for (int size = 0; size < 300; ++size) {
    const std::string fast = edgead::sha256_hex(data.data(), data.size());
    CHECK(portable(data, 1) == fast);
    CHECK(portable(data, 63) == fast);
    edgead::Sha256 pieces;
    for (std::size_t i = 0; i < data.size(); i += 7) pieces.update(data.data() + i, std::min<std::size_t>(7, data.size() - i));
    CHECK(pieces.hex() == fast);
    data += static_cast<char>(random());
  }
  return check_failures();
}
