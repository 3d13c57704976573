"""pc.py MESSAGE REGEX shared... -- own...   commit own files whole and of shared ones the hunks matching REGEX"""
import os,re,subprocess,sys,tempfile
msg,rx=sys.argv[1:3]; rest=sys.argv[3:]; k=rest.index('--'); shared,own=rest[:k],rest[k+1:]
def git(*a,env=None,inp=None): 
    r=subprocess.run(['git',*a],env={**os.environ,**(env or {})},input=inp,capture_output=True,text=True)
    if r.returncode: print(a[:3],r.stderr); sys.exit(1)
    return r.stdout
patch=''
for f in shared:
    d=git('diff','-U0','HEAD','--',f)
    if not d: continue
    head,*hunks=re.split(r'(?m)^(?=@@ )',d)
    mine=[h for h in hunks if re.search(rx,'\n'.join(l for l in h.splitlines()[1:]))]
    if mine: patch+=head+''.join(mine)
idx=tempfile.mktemp()
env={'GIT_INDEX_FILE':idx}
git('read-tree','HEAD',env=env)
if patch: git('apply','--cached','--unidiff-zero','-',env=env,inp=patch)
if own: git('add','--',*own,env=env)
git('commit','-q','-m',msg,env=env)
if own: git('add','--',*own)
if patch:
    r=subprocess.run(['git','apply','--cached','--unidiff-zero','-'],input=patch,text=True,capture_output=True)
    print(r.stderr)
os.unlink(idx)
print(git('show','--stat','HEAD'))
