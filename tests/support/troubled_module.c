/*
 * A PKCS #11 module in front of another one, whose C_Sign does what the file named by TROUBLE says:
 *
 *     sleep SECONDS    make the file TROUBLE.begun, wait, then sign
 *     run              make the file TROUBLE.ran by another program, then sign
 *     crash            end the process by SIGSEGV
 *     fail CODE        return this CK_RV
 *
 * Anything else, or no such file: sign. REAL_MODULE names the other module.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* CK_FUNCTION_LIST of PKCS #11 v2.40: a version, then 68 functions; C_GetFunctionList is the fourth, C_Sign the 44th. */
enum { FUNCTIONS = 68, GET_FUNCTION_LIST = 3, SIGN = 43 };
struct list {
    unsigned char version[2];
    void (*function[FUNCTIONS])(void);
};
typedef unsigned long (*get_list_function)(struct list **);
typedef unsigned long (*sign_function)(unsigned long, unsigned char *, unsigned long, unsigned char *, unsigned long *);

static struct list ours;
static sign_function real_sign;

static unsigned long sign(unsigned long session, unsigned char *data, unsigned long length, unsigned char *signature,
                          unsigned long *room)
{
    const char *name = getenv("TROUBLE");
    FILE *file = name != NULL && signature != NULL ? fopen(name, "r") : NULL;
    if (file != NULL) {
        char what[16] = "";
        unsigned long number = 0;
        (void)!fscanf(file, "%15s %lu", what, &number);
        fclose(file);
        if (strcmp(what, "sleep") == 0) {
            char begun[4096];
            (void)snprintf(begun, sizeof(begun), "%s.begun", name);
            file = fopen(begun, "w");
            if (file != NULL)
                fclose(file);
            sleep((unsigned)number);
        }
        if (strcmp(what, "run") == 0) {
            char command[4200];
            (void)snprintf(command, sizeof(command), "touch '%s.ran'", name);
            (void)!system(command);
        }
        if (strcmp(what, "crash") == 0)
            raise(SIGSEGV);
        if (strcmp(what, "fail") == 0) {
            (void)real_sign(session, data, length, signature, room);
            return number;
        }
    }
    return real_sign(session, data, length, signature, room);
}

unsigned long C_GetFunctionList(struct list **given)
{
    const char *path = getenv("REAL_MODULE");
    void *handle = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    get_list_function get_list = NULL;
    struct list *theirs = NULL;
    if (handle != NULL)
        *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    if (get_list == NULL || get_list(&theirs) != 0)
        return 5; /* CKR_GENERAL_ERROR */
    ours = *theirs;
    real_sign = (sign_function)ours.function[SIGN];
    ours.function[SIGN] = (void (*)(void))sign;
    ours.function[GET_FUNCTION_LIST] = (void (*)(void))C_GetFunctionList;
    *given = &ours;
    return 0;
}
