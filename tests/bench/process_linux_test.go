package bench

import "syscall"

// dieWithParent keeps servers from outliving a benchmark that was killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
