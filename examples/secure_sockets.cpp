// secure_sockets.cpp - classes in the shape of Secure Sockets, with the four callbacks
// that their guide describes, and the functions of libcftpki_ssl.so in them.
//
//   secure_sockets PROFILE PORT CAFILE [KEYFILE]
//
// Connects as a client. With KEYFILE, an encrypted key is read first, with the
// password that the service has.
#include <cftpki_ssl.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include "common.h"

namespace {

struct RWUnableToReadPrivateKeyError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct RWHandshakeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class RWSecureSocketContext {
public:
  using PasswordCallback = int (*)(char *, int, int);
  using VerifyCallback = int (*)(int, X509_STORE_CTX *);
  using ClientCertificateCallback = int (*)(SSL *, X509 **, EVP_PKEY **);

  explicit RWSecureSocketContext(const SSL_METHOD *method)
      : context_(SSL_CTX_new(method), SSL_CTX_free) {}

  void setPasswordCallback(PasswordCallback callback) {
    password_ = callback;
    SSL_CTX_set_default_passwd_cb_userdata(context_.get(), this);
    SSL_CTX_set_default_passwd_cb(context_.get(), [](char *buffer, int size, int flag, void *self) {
      return static_cast<RWSecureSocketContext *>(self)->password_(buffer, size, flag);
    });
  }
  void setVerify(int mode, VerifyCallback callback) {
    SSL_CTX_set_verify(context_.get(), mode, callback);
  }
  void setCertificateVerifyCallback(VerifyCallback callback) {
    setVerify(SSL_CTX_get_verify_mode(context_.get()), callback);
  }
  void setClientCertificateCallback(ClientCertificateCallback callback) {
    SSL_CTX_set_client_cert_cb(context_.get(), callback);
  }
  void trust(const std::string &file) {
    SSL_CTX_load_verify_locations(context_.get(), file.c_str(), nullptr);
  }
  void usePrivateKeyFile(const std::string &file) {
    if (SSL_CTX_use_PrivateKey_file(context_.get(), file.c_str(), SSL_FILETYPE_PEM) != 1) {
      throw RWUnableToReadPrivateKeyError(file);
    }
  }
  SSL_CTX *get() {
    return context_.get();
  }

private:
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  PasswordCallback password_ = nullptr;
};

class RWSecureSocket {
public:
  using InfoCallback = void (*)(const SSL *, int, int);

  RWSecureSocket(RWSecureSocketContext &context, int descriptor)
      : ssl_(SSL_new(context.get()), SSL_free) {
    SSL_set_fd(ssl_.get(), descriptor);
  }
  void setInfoCallback(InfoCallback callback) {
    SSL_set_info_callback(ssl_.get(), callback);
  }
  std::string exchange(const std::string &text) {
    char answer[64];
    if (SSL_connect(ssl_.get()) != 1 ||
        SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) <= 0) {
      throw RWHandshakeError(cftpki_ssl_reason(ssl_.get()));
    }
    int length = SSL_read(ssl_.get(), answer, sizeof(answer));
    if (length <= 0) {
      throw RWHandshakeError("the partner refused us");
    }
    SSL_shutdown(ssl_.get());
    return {answer, static_cast<std::size_t>(length)};
  }

private:
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
};

} // namespace

int main(int argc, char **argv) try {
  if (argc < 4) {
    std::cerr << "usage: secure_sockets PROFILE PORT CAFILE [KEYFILE]\n";
    return 2;
  }
  const char *profile = argv[1];
  const char *trusted = argv[3];
  // begin: set-up in C++
  RWSecureSocketContext context(TLS_client_method());
  cftpki_ssl_set_profile(context.get(), profile);
  context.trust(trusted);
  context.setVerify(SSL_VERIFY_PEER, cftpki_verify_cb);
  context.setClientCertificateCallback(cftpki_client_cert_cb);
  context.setPasswordCallback(cftpki_password_cb);
  int descriptor = connect_to(static_cast<unsigned>(std::atoi(argv[2])));
  RWSecureSocket socket(context, descriptor);
  socket.setInfoCallback(cftpki_info_cb);
  // end: set-up in C++
  if (argc > 4) {
    context.usePrivateKeyFile(argv[4]);
    std::cout << "key read\n";
  }
  const std::string answer = socket.exchange("hello\n");
  std::cout << "answered " << answer;
  close(descriptor);
  return 0;
} catch (const RWUnableToReadPrivateKeyError &error) {
  std::cout << "unable to read private key " << error.what() << '\n';
  return 1;
} catch (const RWHandshakeError &error) {
  std::cout << "refused " << error.what() << '\n';
  return 1;
}
