// A DNS server for tests: on 127.0.0.1, in the test's own loop, that says what it was told to say, when it was told to.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace sallyport::test {

class DnsServer {
 public:
  using Bytes = std::vector<uint8_t>;
  using udp = boost::asio::ip::udp;
  using tcp = boost::asio::ip::tcp;
  static constexpr uint16_t kA = 1, kAaaa = 28;

  struct Record {
    std::string address;  // in text; its family is the record's type
    uint32_t ttl = 300;
  };
  struct Says {
    std::vector<Record> records;
    std::string alias;  // a CNAME on the way to the records
    uint32_t alias_ttl = 300;
    uint8_t code = 0;  // RCODE
    std::chrono::milliseconds delay{0};
    bool silent = false;
    bool truncated = false;             // by UDP: go and ask by TCP
    std::function<void(Bytes&)> spoil;  // has the last word on the datagram
    std::string owner;                  // the records are this name's instead
  };

  explicit DnsServer(boost::asio::io_context& context)
      : context_(context),
        socket_(context, udp::endpoint(boost::asio::ip::address_v4::loopback(), 0)),
        acceptor_(context, tcp::endpoint(boost::asio::ip::address_v4::loopback(), port())) {
    receive();
    accept();
  }

  uint16_t port() const { return socket_.local_endpoint().port(); }
  std::string text() const { return "127.0.0.1:" + std::to_string(port()); }

  void say_of(uint16_t type, const std::string& name, Says says) {
    says_[{name, type}] = std::move(says);
  }
  void say(const std::string& name, Says v4, Says v6) {
    say_of(kA, name, std::move(v4));
    say_of(kAaaa, name, std::move(v6));
  }
  void shut_tcp() { acceptor_.close(); }

  int asked(uint16_t type) const { return type == kA ? asked_a_ : asked_aaaa_; }
  int asked_by_tcp() const { return asked_tcp_; }
  std::vector<std::string> names;  // of all questions, in order

 private:
  struct Question {
    std::string name;
    uint16_t type = 0;
    size_t end = 0;
  };

  static Question read(const Bytes& query) {
    Question question;
    size_t at = 12;
    while (at < query.size() && query[at] != 0) {
      question.name += (question.name.empty() ? "" : ".") +
                       std::string(query.begin() + static_cast<ptrdiff_t>(at) + 1,
                                   query.begin() + static_cast<ptrdiff_t>(at + 1 + query[at]));
      at += 1u + query[at];
    }
    question.type = static_cast<uint16_t>(query[at + 1] << 8 | query[at + 2]);
    question.end = at + 5;
    return question;
  }

  static void put(Bytes& out, uint32_t value, int bytes) {
    for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) {
      out.push_back(static_cast<uint8_t>(value >> shift));
    }
  }
  static void put_name(Bytes& out, const std::string& name) {
    for (size_t at = 0; at <= name.size();) {
      const size_t dot = std::min(name.find('.', at), name.size());
      out.push_back(static_cast<uint8_t>(dot - at));
      out.insert(out.end(), name.begin() + static_cast<ptrdiff_t>(at),
                 name.begin() + static_cast<ptrdiff_t>(dot));
      at = dot + 1;
    }
    out.push_back(0);
  }

  static Bytes answer(const Bytes& query, const Question& question, const Says& says, bool by_tcp) {
    const bool cut = says.truncated && !by_tcp;
    Bytes out(query.begin(), query.begin() + static_cast<ptrdiff_t>(question.end));
    out[2] = static_cast<uint8_t>(0x81 | (cut ? 2 : 0));
    out[3] = static_cast<uint8_t>(0x80 | says.code);
    size_t count = cut ? 0 : says.records.size();
    std::string owner = says.owner.empty() ? question.name : says.owner;
    if (!says.alias.empty() && !cut) {
      ++count;
      put_name(out, owner);
      put(out, 5, 2);
      put(out, 1, 2);
      put(out, says.alias_ttl, 4);
      Bytes alias;
      put_name(alias, says.alias);
      put(out, static_cast<uint32_t>(alias.size()), 2);
      out.insert(out.end(), alias.begin(), alias.end());
      owner = says.alias;
    }
    for (size_t i = 0; !cut && i < says.records.size(); ++i) {
      const auto address = boost::asio::ip::make_address(says.records[i].address);
      put_name(out, owner);
      put(out, address.is_v4() ? kA : kAaaa, 2);
      put(out, 1, 2);
      put(out, says.records[i].ttl, 4);
      put(out, address.is_v4() ? 4 : 16, 2);
      if (address.is_v4()) {
        const auto bytes = address.to_v4().to_bytes();
        out.insert(out.end(), bytes.begin(), bytes.end());
      } else {
        const auto bytes = address.to_v6().to_bytes();
        out.insert(out.end(), bytes.begin(), bytes.end());
      }
    }
    out[6] = static_cast<uint8_t>(count >> 8);
    out[7] = static_cast<uint8_t>(count);
    out[8] = out[9] = out[10] = out[11] = 0;
    return out;
  }

  const Says& look_up(const Question& question) {
    ++(question.type == kA ? asked_a_ : asked_aaaa_);
    names.push_back(question.name);
    static const Says no_such_name = [] {
      Says says;
      says.code = 3;
      return says;
    }();
    const auto found = says_.find({question.name, question.type});
    return found == says_.end() ? no_such_name : found->second;
  }

  void receive() {
    buffer_.resize(1500);
    socket_.async_receive_from(
        boost::asio::buffer(buffer_), from_,
        [this](boost::system::error_code error, size_t length) {
          if (error) {
            return;
          }
          const Bytes query(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(length));
          const Question question = read(query);
          const Says& says = look_up(question);
          if (!says.silent) {
            auto out = std::make_shared<Bytes>(answer(query, question, says, false));
            if (says.spoil) {
              says.spoil(*out);
            }
            auto timer = std::make_shared<boost::asio::steady_timer>(context_, says.delay);
            timer->async_wait([this, timer, out, to = from_](boost::system::error_code) {
              boost::system::error_code ignored;
              socket_.send_to(boost::asio::buffer(*out), to, 0, ignored);
            });
          }
          receive();
        });
  }

  // One question a connection.
  void accept() {
    acceptor_.async_accept([this](boost::system::error_code error, tcp::socket peer) {
      if (error) {
        return;
      }
      auto socket = std::make_shared<tcp::socket>(std::move(peer));
      auto head = std::make_shared<Bytes>(2);
      boost::asio::async_read(
          *socket, boost::asio::buffer(*head),
          [this, socket, head](boost::system::error_code failed, size_t) {
            if (failed) {
              return;
            }
            auto query = std::make_shared<Bytes>(size_t{(*head)[0]} << 8 | (*head)[1]);
            boost::asio::async_read(*socket, boost::asio::buffer(*query),
                                    [this, socket, query](boost::system::error_code bad, size_t) {
                                      if (!bad) {
                                        answer_by_tcp(*socket, *query);
                                      }
                                    });
          });
      accept();
    });
  }

  void answer_by_tcp(tcp::socket& socket, const Bytes& query) {
    ++asked_tcp_;
    const Question question = read(query);
    const Bytes body = answer(query, question, look_up(question), true);
    Bytes out;
    put(out, static_cast<uint32_t>(body.size()), 2);
    out.insert(out.end(), body.begin(), body.end());
    boost::system::error_code ignored;
    boost::asio::write(socket, boost::asio::buffer(out), ignored);
  }

  boost::asio::io_context& context_;
  udp::socket socket_;
  tcp::acceptor acceptor_;
  udp::endpoint from_;
  Bytes buffer_;
  std::map<std::pair<std::string, uint16_t>, Says> says_;
  int asked_a_ = 0, asked_aaaa_ = 0, asked_tcp_ = 0;
};

}  // namespace sallyport::test
