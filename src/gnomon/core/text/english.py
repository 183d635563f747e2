"""Our own list of English stop words: what carries grammar and no topic. An apostrophe in a word is the straight one."""

_WORDS = """
a an the
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves one oneself someone somebody something anyone anybody anything everyone
everybody everything nobody nothing none who whom whose which what whoever whatever whichever
this that these those such same other another each every either neither both all any some few several many much more most
less least own enough
and or but nor so yet if unless although though because since while whereas whether than as
about above across after against along amid among around at before behind below beneath beside besides between beyond by
despite down during except for from in inside into like near of off on onto out outside over past per round through
throughout till to toward towards under until up upon via with within without
am is are was were be been being do does did done doing have has had having can could may might must shall should will
would ought let get gets got getting
not no yes only just very too also even still again ever never always often once then there here thus hence therefore
however meanwhile instead rather quite perhaps maybe almost already away back else far now soon later
when where why how wherever whenever
ok okay oh well please hi hey hello um uh yeah yep
etc eg ie vs
i'm i've i'd i'll you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'd it'll we're we've we'd we'll
they're they've they'd they'll that's that'd that'll there's there'd there'll here's what's who's who'd who'll where's
when's why's how's let's
isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't can't cannot couldn't mayn't mightn't mustn't
shan't shouldn't won't wouldn't needn't oughtn't ain't y'all
s t d ll m re ve
"""
WORDS = frozenset(_WORDS.split())
"""Lower-case words."""
