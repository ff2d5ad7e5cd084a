#include "engine/document_store.h"

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <vector>

#include "engine/backend/backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;

constexpr auto kEncoded = Document::Stage::kEncoded;

std::vector<int32_t> Tokens(int length, int32_t first) {
  std::vector<int32_t> tokens(length);
  for (int i = 0; i < length; ++i) tokens[i] = first + i;
  return tokens;
}

std::vector<int32_t> TokensOf(const DocumentStore& store, const Document& document) {
  std::vector<int32_t> tokens;
  store.AppendTokens(document, &tokens);
  return tokens;
}

std::vector<int32_t> PagesOf(const DocumentStore& store, const Document& document) {
  std::vector<int32_t> pages;
  store.AppendPages(document, &pages);
  return pages;
}

// Used and left, encoded.
void Keep(DocumentStore& store, const std::vector<int32_t>& tokens) {
  Document* document = store.Acquire(tokens);
  ASSERT_NE(document, nullptr);
  document->stage = kEncoded;
  store.Release(document);
}

TEST(DocumentStoreTest, EqualTokensShareADocument) {
  DocumentStore store(10, /*shared=*/true);
  for (const int length : {1, 63, 64, 65, 128, 130}) {
    const std::vector<int32_t> tokens = Tokens(length, 1000 * length);
    Document* document = store.Acquire(tokens);
    ASSERT_NE(document, nullptr);
    EXPECT_EQ(document->length, length);
    EXPECT_EQ(document->stage, Document::Stage::kWaiting);
    EXPECT_EQ(TokensOf(store, *document), tokens);
    const int64_t pages = (length + 63) / 64;
    EXPECT_EQ(static_cast<int64_t>(PagesOf(store, *document).size()), pages);
    EXPECT_EQ(store.free_pages(), 10 - pages);
    EXPECT_EQ(store.Acquire(tokens), document);
    EXPECT_EQ(document->users, 2);
    EXPECT_EQ(store.free_pages(), 10 - pages);
    store.Release(document);
    EXPECT_EQ(store.free_pages(), 10 - pages);
    EXPECT_EQ(store.used().size(), 1u);
    store.Release(document);
    EXPECT_EQ(store.free_pages(), 10);
    EXPECT_TRUE(store.used().empty());
  }
  EXPECT_EQ(store.counts().hits, 6);
  EXPECT_EQ(store.counts().misses, 6);
}

// Each differs from the first in one place: the first and the last token of each page, and the length.
TEST(DocumentStoreTest, TokensAreComparedToTheLast) {
  DocumentStore store(100, /*shared=*/true);
  const std::vector<int32_t> tokens = Tokens(130, 7);
  std::vector<Document*> documents = {store.Acquire(tokens)};
  for (const int at : {0, 63, 64, 127, 128, 129}) {
    std::vector<int32_t> other = tokens;
    other[at] = 5000;
    documents.push_back(store.Acquire(other));
  }
  documents.push_back(store.Acquire(Tokens(129, 7)));
  documents.push_back(store.Acquire(Tokens(131, 7)));
  std::sort(documents.begin(), documents.end());
  EXPECT_EQ(std::unique(documents.begin(), documents.end()), documents.end());
  EXPECT_EQ(store.counts().misses, 9);
}

TEST(DocumentStoreTest, WhatIsEncodedIsKept) {
  DocumentStore store(4, /*shared=*/true);
  const std::vector<int32_t> tokens = Tokens(100, 7);
  Document* document = store.Acquire(tokens);
  document->stage = kEncoded;
  const std::vector<int32_t> pages = PagesOf(store, *document);
  store.Release(document);
  EXPECT_EQ(store.free_pages(), 4);
  EXPECT_EQ(store.counts().kept_tokens, 100);
  ASSERT_EQ(store.Acquire(tokens), document);
  EXPECT_EQ(document->stage, kEncoded);
  EXPECT_EQ(document->users, 1);
  EXPECT_EQ(PagesOf(store, *document), pages);
  EXPECT_EQ(store.free_pages(), 2);
  EXPECT_EQ(store.counts().kept_tokens, 0);
  EXPECT_EQ(store.counts().hits, 1);
}

TEST(DocumentStoreTest, WhatIsNotEncodedIsForgotten) {
  DocumentStore store(4, /*shared=*/true);
  for (const Document::Stage stage : {Document::Stage::kWaiting, Document::Stage::kEncoding}) {
    Document* document = store.Acquire(Tokens(100, 7));
    document->stage = stage;
    store.Release(document);
    EXPECT_EQ(store.free_pages(), 4);
  }
  EXPECT_EQ(store.Acquire(Tokens(100, 7))->stage, Document::Stage::kWaiting);
  EXPECT_EQ(store.counts().hits, 0);
  EXPECT_EQ(store.counts().kept_tokens, 0);
}

TEST(DocumentStoreTest, TheLeastRecentlyUsedGoesFirst) {
  DocumentStore store(4, /*shared=*/true);
  for (const int32_t first : {100, 200, 300, 400}) Keep(store, Tokens(64, first));
  Keep(store, Tokens(64, 100));  // used again
  EXPECT_EQ(store.counts().evictions, 0);
  Document* large = store.Acquire(Tokens(65, 500));  // 200 and 300 go
  ASSERT_NE(large, nullptr);
  EXPECT_EQ(store.counts().evictions, 2);
  EXPECT_EQ(store.counts().kept_tokens, 128);
  const int64_t hits = store.counts().hits;
  EXPECT_EQ(store.Acquire(Tokens(64, 400))->stage, kEncoded);
  EXPECT_EQ(store.Acquire(Tokens(64, 100))->stage, kEncoded);
  EXPECT_EQ(store.counts().hits, hits + 2);
  EXPECT_EQ(store.Acquire(Tokens(64, 200)), nullptr);  // all is in use
  EXPECT_EQ(store.free_pages(), 0);
}

// Only as many go as have to.
TEST(DocumentStoreTest, PagesOfNobodyAreTakenBeforeKeptOnes) {
  DocumentStore store(4, /*shared=*/true);
  Keep(store, Tokens(64, 100));
  Document* large = store.Acquire(Tokens(3 * 64, 500));
  EXPECT_EQ(store.counts().evictions, 0);
  EXPECT_EQ(store.counts().kept_tokens, 64);
  store.Release(large);
  EXPECT_EQ(store.Acquire(Tokens(5 * 64, 500)), nullptr);
  EXPECT_EQ(store.counts().evictions, 0);
}

TEST(DocumentStoreTest, UsedOnesStandInOrder) {
  DocumentStore store(8, /*shared=*/true);
  Document* a = store.Acquire(Tokens(1, 1));
  a->stage = kEncoded;
  Document* b = store.Acquire(Tokens(1, 2));
  store.Release(a);
  Document* c = store.Acquire(Tokens(1, 3));
  store.Acquire(Tokens(1, 2));
  EXPECT_EQ(store.Acquire(Tokens(1, 1)), a);
  std::vector<Document*> used;
  for (Document& document : store.used()) used.push_back(&document);
  EXPECT_THAT(used, ElementsAre(b, c, a));
}

TEST(DocumentStoreTest, NotSharedEachHasItsOwn) {
  DocumentStore store(4, /*shared=*/false);
  Document* a = store.Acquire(Tokens(64, 7));
  Document* b = store.Acquire(Tokens(64, 7));
  EXPECT_NE(a, b);
  EXPECT_EQ(store.free_pages(), 2);
  a->stage = b->stage = kEncoded;
  store.Release(a);
  store.Release(b);
  EXPECT_EQ(store.free_pages(), 4);
  EXPECT_EQ(store.Acquire(Tokens(64, 7))->stage, Document::Stage::kWaiting);
  const EncoderCacheCounts& counts = store.counts();
  EXPECT_EQ(counts.hits + counts.misses + counts.evictions + counts.kept_tokens, 0);
}

// Against a plain list of what is kept: random sources of a few lengths come and go, encoded or not.
TEST(DocumentStoreTest, RandomTraffic) {
  constexpr int64_t kPages = 12;
  for (unsigned seed = 0; seed < 5; ++seed) {
    std::mt19937 random(seed);
    DocumentStore store(kPages, /*shared=*/true);
    std::map<std::vector<int32_t>, Document*> used;
    std::list<std::vector<int32_t>> kept;
    const auto pages = [](const std::vector<int32_t>& tokens) {
      return (static_cast<int64_t>(tokens.size()) + 63) / 64;
    };
    int64_t used_pages = 0, kept_pages = 0, evictions = 0, hits = 0;
    for (int i = 0; i < 20000; ++i) {
      const int length = 1 + static_cast<int>(random() % 300);
      const std::vector<int32_t> tokens = Tokens(length / 60 * 60 + 1, static_cast<int32_t>(random() % 6));
      if (random() % 2 == 0) {
        const auto in_use = used.find(tokens);
        const auto in_cache = std::find(kept.begin(), kept.end(), tokens);
        Document* document = store.Acquire(tokens);
        if (in_use != used.end()) {
          ASSERT_EQ(document, in_use->second);
          ++hits;
        } else if (in_cache != kept.end()) {
          ASSERT_EQ(document->stage, kEncoded);
          ++hits;
          kept.erase(in_cache);
          kept_pages -= pages(tokens);
          used_pages += pages(tokens);
          used[tokens] = document;
        } else if (used_pages + pages(tokens) > kPages) {
          ASSERT_EQ(document, nullptr);
        } else {
          ASSERT_EQ(document->stage, Document::Stage::kWaiting);
          used_pages += pages(tokens);
          for (; used_pages + kept_pages > kPages; ++evictions) {
            kept_pages -= pages(kept.front());
            kept.pop_front();
          }
          used[tokens] = document;
        }
      } else if (!used.empty()) {
        const auto leaving = std::next(used.begin(), static_cast<long>(random() % used.size()));
        Document* document = leaving->second;
        if (random() % 3 != 0) document->stage = kEncoded;
        const bool last = document->users == 1, encoded = document->stage == kEncoded;
        store.Release(document);
        if (last) {
          used_pages -= pages(leaving->first);
          if (encoded) {
            kept.push_back(leaving->first);
            kept_pages += pages(leaving->first);
          }
          used.erase(leaving);
        }
      }
      ASSERT_EQ(store.free_pages(), kPages - used_pages);
      ASSERT_EQ(store.used().size(), used.size());
      ASSERT_EQ(store.counts().evictions, evictions);
      ASSERT_EQ(store.counts().hits, hits);
      // No page is two documents', and nobody's tokens changed.
      std::vector<bool> taken(kPages, false);
      for (const auto& [expected, document] : used) {
        ASSERT_EQ(TokensOf(store, *document), expected);
        for (const int32_t page : PagesOf(store, *document)) {
          ASSERT_FALSE(taken[page]);
          taken[page] = true;
        }
      }
      int64_t kept_tokens = 0;
      for (const std::vector<int32_t>& each : kept) kept_tokens += static_cast<int64_t>(each.size());
      ASSERT_EQ(store.counts().kept_tokens, kept_tokens);
    }
    EXPECT_GT(evictions, 100);
    EXPECT_GT(hits, 100);
  }
}

}  // namespace
}  // namespace elserve
