/* patched_curl URL [CERTIFICATES]: greenlets that ask a server which answers nobody before all have asked. */
#include "patched.h"
#include <curl/curl.h>

static const char *url, *certificates;

static size_t takes(char *text, size_t size, size_t n, void *length)
{
    (void)text;
    *(size_t *)length += size * n;
    return size * n;
}

static void *asks(void *unused)
{
    CURL *curl = curl_easy_init();
    size_t length = 0;
    CURLcode code;

    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, takes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &length);
    if (certificates)
        curl_easy_setopt(curl, CURLOPT_CAINFO, certificates);
    waiting++;
    code = curl_easy_perform(curl);
    if (code != CURLE_OK || length != 6)
        fail("curl_easy_perform", curl_easy_strerror(code));
    curl_easy_cleanup(curl);
    done++;
    return unused;
}

int main(int argc, char **argv)
{
    url = argc > 1 ? argv[1] : "";
    certificates = argc > 2 ? argv[2] : NULL;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (weald_patch_all(0) < 0)
        fail("weald_patch_all", NULL);
    run_all(asks);
    finish();
    curl_global_cleanup();
    return 0;
}
