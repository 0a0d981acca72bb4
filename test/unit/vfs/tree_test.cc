// Names and paths over two volumes, one of which may be away.
#include "vfs/tree.h"

#include <sys/stat.h>

#include <boost/test/unit_test.hpp>

#include "fake_volume.h"
#include "vfs/limits.h"

using namespace efs;

namespace {

// /      root volume: dir (20), link -> dir/deep, up -> ../../dir, loop -> loop, abs -> /dir/file
// /dir   deep (21), file (22)
// /dir/deep/data   a volume (5) of its own: f (9)
struct World : VolumeDirectory {
  std::shared_ptr<FakeVolume> root = std::make_shared<FakeVolume>(false, 0);
  std::shared_ptr<FakeVolume> data = std::make_shared<FakeVolume>(false, 5);
  ManualClock clock;
  VolumeTree tree{*this, clock};

  static void add(FakeVolume& volume, InodeNumber parent, const std::string& name, InodeNumber inode,
                  uint32_t mode) {
    Attributes made;
    made.inode = inode;
    made.mode = mode;
    made.change = 1;
    volume.inodes[inode] = made;
    if (parent != 0) volume.names[{parent, name}].attributes = made;
  }
  void add_link(const std::string& name, InodeNumber inode, const std::string& target) {
    add(*root, 1, name, inode, S_IFLNK | 0777);
    root->links[inode] = target;
  }
  World() {
    add(*root, 0, "", 1, S_IFDIR | 0755);
    add(*root, 1, "dir", 20, S_IFDIR | 0711);
    add(*root, 20, "deep", 21, S_IFDIR | 0755);
    add(*root, 20, "file", 22, S_IFREG | 0644);
    add_link("link", 30, "dir/deep");
    add_link("up", 31, "../../dir");
    add_link("loop", 32, "loop");
    add_link("abs", 33, "/dir/file");
    root->names[{21, "data"}].junction = Junction{data->id(), 5};
    add(*data, 0, "", 1, S_IFDIR | 0700);
    add(*data, 1, "f", 9, S_IFREG | 0600);
  }
  std::shared_ptr<VolumeClient> client(VolumeNumber number) override {
    if (number == 0) return root;
    if (number == 5) return data;
    return nullptr;
  }
  Places places() override {
    auto all = std::make_shared<std::vector<VolumePlace>>();
    all->push_back({{}, 0, {}, 0, {}});
    all->push_back({{}, 5, {"dir", "deep", "data"}, 0, {1, 20, 21}});
    return all;
  }
  MeshSpace space() override { return {}; }

  std::string resolve(const std::string& path, bool follow = true) {
    std::string found = "(no answer)";
    tree.resolve(path, {}, follow, {}, [&](Result<ResolvedPath> result) {
      found = result ? result->path + " " + std::to_string(result->node.volume->number()) + ":" +
                           std::to_string(result->node.inode())
                     : std::string(name_of(result.error().code));
    });
    return found;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(tree)

BOOST_AUTO_TEST_CASE(paths_cross_junctions_and_links) {
  World world;
  BOOST_TEST(world.resolve("/") == "/ 0:1");
  BOOST_TEST(world.resolve("dir//./file") == "/dir/file 0:22");
  BOOST_TEST(world.resolve("/dir/deep/data") == "/dir/deep/data 5:1");
  BOOST_TEST(world.resolve("/link/data/f") == "/dir/deep/data/f 5:9");
  BOOST_TEST(world.resolve("/dir/deep/data/../../file") == "/dir/file 0:22");
  BOOST_TEST(world.resolve("/up/../../..") == "/ 0:1");
  BOOST_TEST(world.resolve("/abs") == "/dir/file 0:22");
  BOOST_TEST(world.resolve("/link", false) == "/link 0:30");
}

BOOST_AUTO_TEST_CASE(what_is_wrong_with_a_path_is_said) {
  World world;
  BOOST_TEST(world.resolve("/nothing") == name_of(Code::not_found));
  BOOST_TEST(world.resolve("/dir/file/x") == name_of(Code::not_directory));
  BOOST_TEST(world.resolve("/loop") == name_of(Code::loop));
  BOOST_TEST(world.resolve("/" + std::string(256, 'n')) == name_of(Code::name_too_long));
  std::string parent = "(no answer)";
  world.tree.resolve_parent("/link/new", {}, {}, [&](Result<ResolvedParent> found) {
    parent = found->path + " " + std::to_string(found->directory.inode()) + " " + found->name;
  });
  BOOST_TEST(parent == "/dir/deep 21 new");
}

BOOST_AUTO_TEST_CASE(a_volume_is_reached_while_those_above_it_are_down) {
  World world;
  BOOST_TEST(world.resolve("/dir") == "/dir 0:20");
  world.root->down = true;
  BOOST_TEST(world.resolve("/dir/deep/data/f") == "/dir/deep/data/f 5:9");
  const size_t asked = world.root->seen.size();
  BOOST_TEST(world.resolve("/dir/deep/data/f") == "/dir/deep/data/f 5:9");
  BOOST_TEST(world.root->seen.size() == asked);  // not asked again for a while
  BOOST_TEST(world.resolve("/dir/file") == name_of(Code::unreachable));
  // Attributes that were seen are shown, the others are plain.
  bool assumed = false;
  uint32_t mode = 0;
  world.tree.attributes({}, 20, {}, [&](Result<TreeNode> node) {
    assumed = node->assumed;
    mode = node->attributes.mode;
  });
  BOOST_TEST(assumed);
  BOOST_TEST(mode == uint32_t(S_IFDIR | 0711));
  world.root->down = false;
  world.clock.now += kDownFor;
  BOOST_TEST(world.resolve("/dir/file") == "/dir/file 0:22");
  world.data->down = true;
  BOOST_TEST(world.resolve("/dir/deep/data/f") == name_of(Code::unreachable));
  BOOST_TEST(world.resolve("/dir/deep") == "/dir/deep 0:21");
}

BOOST_AUTO_TEST_CASE(a_volume_that_nobody_serves_is_unreachable) {
  World world;
  Code code = Code::ok;
  world.tree.attributes({}, global_inode(77, 1), {},
                        [&](Result<TreeNode> node) { code = node.error().code; });
  BOOST_TEST((code == Code::unreachable));
}

BOOST_AUTO_TEST_SUITE_END()
