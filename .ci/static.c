// glibc looks in /etc/nsswitch.conf which plugins know names, and loads them, even into a static program. They belong to
// the machine's own glibc, and with another one than this program's the first lookup is a crash: seen with that of
// Debian 13 and `hosts: files myhostname dns`. /etc/hosts and DNS are inside the program and need no plugin.
#include <nss.h>

__attribute__((constructor)) static void no_plugins(void) {
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
}
